//! Which characters a text may hold: those that a reader sees, or whose effect a reader sees.
//!
//! Sources: UAX #9 (bidirectional formatting), UAX #31 section 2.3 and UTS #39 section 3.1.1 (joiners
//! where a script needs them), UTS #51 (emoji sequences), `DerivedCoreProperties.txt` of Unicode 16
//! (`Default_Ignorable_Code_Point`). Stricter than these: a character that is not seen is taken only
//! behind what gives it a meaning, and never two in a row. `docs/runbooks/inspect.md` lists the classes.

/// The flags that are written with tags: England, Scotland, Wales (UTS #51, annex B).
const FLAGS: [[u8; 5]; 3] = [*b"gbeng", *b"gbsct", *b"gbwls"];
/// What stands before the tags of a flag.
const BLACK_FLAG: char = '\u{1F3F4}';
/// What stands behind them.
const TAGS_END: char = '\u{E007F}';
/// Says that a symbol is an emoji.
const EMOJI: char = '\u{FE0F}';

/// What was read of a text so far, as far as the next character depends on it.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    /// The last character that is seen; none behind a break of the line.
    seen: Option<char>,
    /// The one behind it that is not seen, if there is one.
    unseen: Option<char>,
    wanted: Wanted,
}

/// What the next character must be.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// Anything, and a byte order mark too.
    First,
    Any,
    /// A line feed, behind a carriage return.
    LineFeed,
    /// A letter, behind a soft hyphen.
    Letter,
    /// A symbol, behind a symbol and a joiner.
    Symbol,
    /// A tag or the end of a flag's tags, of which there are so many.
    Tag([u8; 5], usize),
}

impl Judge {
    /// Before the first character.
    pub(crate) const fn new() -> Self {
        Self { seen: None, unseen: None, wanted: Wanted::First }
    }

    /// Whether `c` may stand next.
    pub(crate) fn takes(&mut self, c: char) -> bool {
        // Most of most texts: what prints in ASCII, which is none of what is looked for below.
        if matches!(c, ' '..='~') && matches!(self.wanted, Wanted::First | Wanted::Any) {
            (self.seen, self.unseen, self.wanted) = (Some(c), None, Wanted::Any);
            return true;
        }
        let wanted = std::mem::replace(&mut self.wanted, Wanted::Any);
        let good = match wanted {
            Wanted::First if c == '\u{FEFF}' => return true,
            Wanted::Tag(tags, count) => return self.takes_tag(tags, count, c),
            Wanted::First | Wanted::Any => true,
            Wanted::LineFeed => c == '\n',
            Wanted::Letter => c.is_alphabetic(),
            Wanted::Symbol => is_symbol(c),
        };
        good && if c.is_control() {
            self.takes_control(c)
        } else if is_unseen(c) {
            self.takes_unseen(c)
        } else {
            (self.seen, self.unseen) = (Some(c), None);
            !is_never(c)
        }
    }

    /// Whether the text may end here.
    pub(crate) const fn ends(&self) -> bool {
        matches!(self.wanted, Wanted::First | Wanted::Any)
    }

    /// White space of ASCII but the vertical tabulator; a carriage return alone would let a line be
    /// written over on a terminal.
    fn takes_control(&mut self, c: char) -> bool {
        if c == '\r' {
            self.wanted = Wanted::LineFeed;
        }
        (self.seen, self.unseen) = (None, None);
        matches!(c, '\t' | '\n' | '\r' | '\x0c')
    }

    fn takes_unseen(&mut self, c: char) -> bool {
        // Behind an emoji's selector the next emoji may be joined.
        if self.unseen.is_some_and(|unseen| unseen != EMOJI || c != '\u{200D}') {
            return false;
        }
        self.unseen = Some(c);
        if is_mark_of_direction(c) {
            return true;
        }
        let Some(seen) = self.seen else { return false };
        match c {
            '\u{AD}' => {
                self.wanted = Wanted::Letter;
                seen.is_alphabetic()
            }
            '\u{200D}' if is_symbol(seen) => {
                self.wanted = Wanted::Symbol;
                true
            }
            '\u{034F}' | '\u{200C}' | '\u{200D}' => is_joined(seen),
            '\u{1160}' => matches!(seen, '\u{1100}'..='\u{115E}' | '\u{A960}'..='\u{A97C}'),
            '\u{180B}'..='\u{180F}' => matches!(seen, '\u{1800}'..='\u{18AF}'),
            '\u{200B}' => is_written_without_spaces(seen),
            '\u{FE0E}' | EMOJI => is_symbol(seen) || is_varied(seen) || is_key(seen),
            '\u{FE00}'..='\u{FE0D}' => is_varied(seen) || seen == '0',
            '\u{E0100}'..='\u{E01EF}' => is_ideograph(seen),
            '\u{E0020}'..='\u{E007E}' if seen == BLACK_FLAG => self.takes_tag([0; 5], 0, c),
            _ => false,
        }
    }

    fn takes_tag(&mut self, mut tags: [u8; 5], count: usize, c: char) -> bool {
        if c == TAGS_END {
            self.unseen = Some(c);
            return FLAGS.contains(&tags);
        }
        let tag = u32::from(c).checked_sub(0xE0000).and_then(|tag| u8::try_from(tag).ok());
        let (Some(tag), Some(place)) = (tag, tags.get_mut(count)) else { return false };
        *place = tag;
        self.wanted = Wanted::Tag(tags, count.saturating_add(1));
        true
    }
}

/// Characters that no text may hold, though some reader may show something in their place.
const fn is_never(c: char) -> bool {
    // Noncharacters, and characters for private use, which look as a font likes.
    matches!(c, '\u{FDD0}'..='\u{FDEF}' | '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..)
        || matches!(c as u32 & 0xFFFF, 0xFFFE | 0xFFFF)
        // Hides what is annotated, or the annotation.
        || matches!(c, '\u{FFF9}'..='\u{FFFB}')
}

/// Characters that are not seen themselves (`Default_Ignorable_Code_Point`).
const fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
        | '\u{FFF0}'..='\u{FFF8}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{E0FFF}')
}

/// The marks that say how punctuation beside them is directed; unlike embeddings, overrides and
/// isolates they move no other text.
const fn is_mark_of_direction(c: char) -> bool {
    matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}')
}

/// Letters of scripts in which a joiner changes what is seen: Hebrew to Arabic, Indic and South-East
/// Asian scripts, Tibetan, Mongolian, Manichaean, Sogdian, Adlam.
const fn is_joined(c: char) -> bool {
    matches!(c,
        '\u{0590}'..='\u{109F}' | '\u{1700}'..='\u{18AF}' | '\u{1900}'..='\u{1CFF}'
        | '\u{A800}'..='\u{AAFF}' | '\u{ABC0}'..='\u{ABFF}' | '\u{FB1D}'..='\u{FDCF}'
        | '\u{FDF0}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFC}' | '\u{10A00}'..='\u{10FFF}'
        | '\u{11000}'..='\u{11FFF}' | '\u{1E900}'..='\u{1E95F}')
}

/// Letters of scripts without spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer and their kin.
const fn is_written_without_spaces(c: char) -> bool {
    matches!(c,
        '\u{0E00}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' | '\u{1950}'..='\u{19FF}'
        | '\u{1A20}'..='\u{1AAF}' | '\u{A980}'..='\u{A9FF}' | '\u{AA00}'..='\u{AADF}')
}

/// Pictures and symbols that are emoji, or may be.
const fn is_symbol(c: char) -> bool {
    matches!(c,
        '\u{A9}' | '\u{AE}' | '\u{203C}' | '\u{2049}' | '\u{2122}' | '\u{2139}'
        | '\u{2190}'..='\u{2BFF}' | '\u{3030}' | '\u{303D}' | '\u{3297}' | '\u{3299}'
        | '\u{1F000}'..='\u{1FAFF}')
}

/// What the keys of a telephone show, which selectors make emoji.
const fn is_key(c: char) -> bool {
    matches!(c, '0'..='9' | '#' | '*')
}

/// Characters with standardised variants: quotation marks, operators, punctuation and ideographs of
/// East Asia, Myanmar, Phags-pa, hieroglyphs.
const fn is_varied(c: char) -> bool {
    matches!(c,
        '\u{1000}'..='\u{109F}' | '\u{2018}'..='\u{201D}' | '\u{2200}'..='\u{2AFF}'
        | '\u{3000}'..='\u{303F}' | '\u{A840}'..='\u{A877}' | '\u{AA60}'..='\u{AA7F}'
        | '\u{FF01}'..='\u{FF1F}' | '\u{10AC0}'..='\u{10AFF}' | '\u{13000}'..='\u{1345F}')
        || is_ideograph(c)
}

const fn is_ideograph(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{3FFFD}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str) -> bool {
        let mut judge = Judge::new();
        text.chars().all(|c| judge.takes(c)) && judge.ends()
    }

    const HIDING: &[&str] = &[
        // Trojan Source: overrides, embeddings, isolates (CVE-2021-42574).
        "a\u{202A}b",
        "a\u{202B}b",
        "a\u{202C}b",
        "a\u{202D}b",
        "a\u{202E}b",
        "a\u{2066}b",
        "a\u{2067}b",
        "a\u{2068}b",
        "a\u{2069}b",
        "שלום\u{2067}x\u{2069}",
        // Not seen, and without a meaning where they stand.
        "pay\u{200B}ment",
        "a\u{200C}b",
        "a\u{200D}b",
        "a\u{2060}b",
        "a\u{2061}b",
        "a\u{206A}b",
        "a\u{FEFF}b",
        "\u{FEFF}\u{FEFF}a",
        "a\u{34F}b",
        "\u{115F}a",
        "a\u{1160}b",
        "a\u{17B4}b",
        "a\u{180E}b",
        "\u{3164}",
        "\u{FFA0}",
        "a\u{FE0F}b",
        "a\u{FE00}b",
        "é\u{FE01}",
        "a\u{E0101}",
        "\u{FFF0}",
        "\u{1BCA0}",
        "\u{1D173}",
        "می\u{200C}\u{200C}خ",
        "😀\u{FE0F}\u{FE0F}",
        "葛\u{E0101}\u{E0102}",
        "a\u{200E}\u{200F}b",
        "\u{200C}می",
        "\u{200B}ไทย",
        "😀\u{200D}a",
        "😀\u{200D}",
        // Soft hyphens that are no hyphens.
        "1\u{AD}2",
        "a\u{AD} b",
        "a\u{AD}",
        "\u{AD}a",
        "a\u{AD}\u{AD}b",
        "a\n\u{AD}b",
        // Tags.
        "🏴\u{E0067}\u{E0062}",
        "a\u{E0001}b",
        "x\u{E007F}",
        // No characters, or any.
        "\u{FFFE}",
        "\u{FDD0}",
        "\u{1FFFF}",
        "\u{10FFFF}",
        "\u{E000}",
        "\u{F8FF}",
        "\u{F0000}",
        "\u{100000}",
        "\u{FFF9}a\u{FFFA}b\u{FFFB}",
        // Control characters.
        "a\rb",
        "a\r",
        "a\r\r\n",
        "\u{B}",
        "\u{85}",
        "\u{9B}31m",
        "\u{1B}[31m",
        "\0",
        "\u{7F}",
        "\u{8}",
    ];

    #[test]
    fn what_hides_text_or_moves_it_is_refused() {
        let tags: String = "hidden"
            .bytes()
            .map(|b| char::from_u32(0xE0000 + u32::from(b)).expect("a tag"))
            .collect();
        let false_flag = "🏴\u{E0075}\u{E0073}\u{E0074}\u{E0078}\u{E007F}";
        let more = [tags.as_str(), &format!("🏴{tags}"), false_flag];
        for text in HIDING.iter().copied().chain(more) {
            assert!(!good(text), "{text:?}");
        }
    }

    #[test]
    fn what_people_write_is_taken() {
        for text in [
            "",
            "\u{FEFF}",
            "\u{FEFF}Pumps\r\n\tweekly\n",
            "RFC 2119\n\x0c\nPage 2\x0c",
            "na\u{EF}ve – “ok”…",
            "Wiederaufnahme\u{AD}verfahren",
            "a\u{A0}b\u{202F}c\u{2009}d\u{3000}e",
            "a\u{2028}b\u{2029}",
            "می\u{200C}خواهم",
            "क\u{94D}\u{200D}ष",
            "ක\u{DCA}\u{200D}ර",
            "ไทย\u{200B}ภาษา",
            "ខ្មែរ\u{200B}ភាសា",
            "שלום\u{200F}!",
            "(\u{200E}abc)",
            "\u{61C}١",
            "ᠮᠣᠩ\u{180E}ᠠ",
            "ᠠ\u{180B}",
            "👩\u{200D}👩\u{200D}👧",
            "👩🏽\u{200D}🚒",
            "❤\u{FE0F}\u{200D}🔥",
            "🏳\u{FE0F}\u{200D}🌈",
            "1\u{FE0F}\u{20E3}",
            "☎\u{FE0E}",
            "©\u{FE0F}",
            "葛\u{E0101}",
            "葛\u{FE00}",
            "≨\u{FE00}",
            "0\u{FE00}",
            "“\u{FE00}",
            "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}!",
            "🏴\u{E0067}\u{E0062}\u{E0073}\u{E0063}\u{E0074}\u{E007F}",
            "🏴\u{E0067}\u{E0062}\u{E0077}\u{E006C}\u{E0073}\u{E007F}",
            "🏴 and 🏴\u{200D}☠\u{FE0F}",
            "\u{FFFD}\u{FFFC}\u{2800}",
            "ᄀ\u{1160}ᆨ",
            "日本語の「文」。",
            "𝒜 ≠ 𝔄",
        ] {
            assert!(good(text), "{text:?}");
        }
    }
}
