//! The words of a manifest: what a name, a version, a licence and a URI may look like.
//!
//! They reach screens, policies and comparisons far from here, so each has a form of its own.

use spdx::{
    Expression,
    lexer::{Lexer, LexerToken, Token},
};

use crate::limits;

/// Whether `text` is 1 to 64 letters that are `allowed`, of which the first is a letter or a digit.
pub(crate) fn is_word(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(allowed)
        && text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
}

/// Whether `text` is a name such as `q8_0` or `gear-tensors-v1`.
pub(crate) fn is_name(text: &str) -> bool {
    is_word(text, |c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
}

/// Whether releases may be called so: 1 to 64 of `a-z 0-9 . _ -`, of which the first is a letter or a
/// digit.
#[must_use]
pub fn is_release_name(text: &str) -> bool {
    let lower = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    is_word(text, |c| lower(c) || matches!(c, b'.' | b'_' | b'-'))
}

/// Whether `text` is a line of at most [`limits::WORD_BYTES_MAX`] bytes.
fn is_line(text: &str) -> bool {
    (1..=limits::WORD_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_graphic() || c == b' ')
}

/// The numbers of a normal version `X.Y.Z` (Semantic Versioning 2.0.0, clause 2): digits without zeros
/// in front. `None` for anything else, and for a number beyond `u64`.
#[must_use]
pub fn normal_version(text: &str) -> Option<[u64; 3]> {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
        let plain = digits && (part == "0" || !part.starts_with('0'));
        plain.then(|| part.parse().ok()).flatten()
    };
    let numbers: Option<Vec<u64>> = text.split('.').map(number).collect();
    numbers?.try_into().ok()
}

/// Whether `text` is a licence expression (SPDX 2.3, annex D): identifiers that are on the list today and
/// as it spells them, `LicenseRef-` names, `+`, `WITH`, `AND`, `OR`, parentheses.
pub(crate) fn is_licence(text: &str) -> bool {
    // What the parser leaves open: an empty name behind `LicenseRef-`, and operators in lower case,
    // which the annex does not know.
    let named = |document: Option<&str>, name: &str| {
        !name.is_empty() && document.is_none_or(|document| !document.is_empty())
    };
    let is_whole = |part: LexerToken<'_>| match part.token {
        Token::LicenseRef { doc_ref, lic_ref } => named(doc_ref, lic_ref),
        Token::AdditionRef { doc_ref, add_ref } => named(doc_ref, add_ref),
        Token::And | Token::Or | Token::With => {
            text.get(part.span).is_some_and(|word| word.bytes().all(|c| c.is_ascii_uppercase()))
        }
        // The parser's list has a word for "nobody looked", which is no licence.
        Token::Spdx(id) => id.name != "NOASSERTION",
        Token::Exception(_)
        | Token::Unknown(_)
        | Token::Plus
        | Token::OpenParen
        | Token::CloseParen => true,
    };
    is_line(text)
        && Expression::parse(text).is_ok()
        && Lexer::new(text).all(|part| part.is_ok_and(is_whole))
}

/// Whether `text` is a URI with a scheme (RFC 3986, section 3), by its letters.
pub(crate) fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let in_scheme = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.');
    let in_rest = |c: u8| c.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&c);
    let escaped = |(at, _): (usize, &str)| {
        let digits = rest.as_bytes().get(at.saturating_add(1)..at.saturating_add(3));
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    is_line(text)
        && scheme.bytes().next().is_some_and(|c| c.is_ascii_alphabetic())
        && scheme.bytes().all(in_scheme)
        && !rest.is_empty()
        && rest.bytes().all(in_rest)
        && rest.match_indices('%').all(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 14] = [
        "MIT",
        "CC0-1.0",
        "Apache-2.0 OR MIT",
        "MIT AND (Apache-2.0 OR BSD-3-Clause)",
        "((MIT))",
        "Apache-2.0+",
        "GPL-3.0-or-later",
        "Apache-2.0 WITH LLVM-exception",
        "GPL-2.0-only WITH Classpath-exception-2.0 OR MIT",
        "LicenseRef-gemma",
        "LicenseRef-a.b-1",
        "DocumentRef-x:LicenseRef-y",
        "Apache-2.0 WITH AdditionRef-own",
        "MIT  OR  Apache-2.0",
    ];
    const BAD: [&str; 61] = [
        "",
        " ",
        "mit",
        "Mit",
        "apache-2.0",
        "Apache 2.0",
        "Apache2",
        "anything I like",
        "NONE",
        "NOASSERTION",
        "MIT OR",
        "OR MIT",
        "MIT OR OR MIT",
        "MIT AND",
        "MIT MIT",
        "MIT, Apache-2.0",
        "MIT/Apache-2.0",
        "MIT or Apache-2.0",
        "MIT and Apache-2.0",
        "Apache-2.0 with LLVM-exception",
        "MIT Or Apache-2.0",
        "MIT WITH",
        "WITH LLVM-exception",
        "LLVM-exception",
        "MIT WITH MIT",
        "MIT WITH LLVM",
        "MIT WITH LLVM-exception WITH LLVM-exception",
        "(MIT) WITH LLVM-exception",
        "(MIT",
        "MIT)",
        ")MIT(",
        "()",
        "(MIT) (MIT)",
        "(MIT OR)",
        "MIT(Apache-2.0)",
        "+",
        "MIT +",
        "MIT++",
        "(MIT)+",
        "+MIT",
        "LicenseRef-x+",
        "LicenseRef-",
        "LicenseRef",
        "LicenseRef-a_b",
        "LicenseRef-a/b",
        "LicenseRef-a:b",
        "licenseref-x",
        "MIT OR LicenseRef-",
        "DocumentRef-x",
        "DocumentRef-:LicenseRef-y",
        "DocumentRef-x:LicenseRef-",
        "DocumentRef-x:MIT",
        "MIT WITH AdditionRef-",
        "GPL-3.0",
        "GPL-3.0+",
        "GPL-3.0-or-later+",
        "MIT\tOR Apache-2.0",
        "MIT\n",
        "MIT\u{a0}OR MIT",
        "\u{1b}[2JMIT",
        "MI\u{405}",
    ];

    #[test]
    fn a_licence_is_an_expression_of_the_list() {
        for good in GOOD {
            assert!(is_licence(good), "{good}");
        }
        let long = format!("LicenseRef-{}", "x".repeat(128 - 11));
        assert!(is_licence(&long));
        assert!(!is_licence(&format!("{long}x")));
        for bad in BAD {
            assert!(!is_licence(bad), "{bad}");
        }
    }

    #[test]
    fn a_version_is_three_plain_numbers() {
        for (text, numbers) in [
            ("0.0.0", [0, 0, 0]),
            ("1.20.3", [1, 20, 3]),
            ("18446744073709551615.0.10", [u64::MAX, 0, 10]),
        ] {
            assert_eq!(normal_version(text), Some(numbers));
        }
        for bad in [
            "",
            "1",
            "1.2",
            "1.2.",
            ".1.2",
            "1..2",
            "1.2.3.4",
            "00.0.0",
            "01.2.3",
            "1.02.3",
            "1.2.03",
            "v1.2.3",
            "1.2.3-",
            "1.2.3-rc.1",
            "1.2.3+",
            "1.2.3+build",
            "+1.2.3",
            "-1.2.3",
            "1.2.x",
            "1.2.*",
            " 1.2.3",
            "1.2.3 ",
            "1.2.3\n",
            "1,2,3",
            "0x1.2.3",
            "1e1.0.0",
            "\u{661}.2.3",
            "18446744073709551616.0.0",
        ] {
            assert_eq!(normal_version(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_uri_has_a_scheme_and_no_other_letters() {
        for good in ["https://slsa.dev/provenance/v1", "urn:x:y", "a+b-1.c:%2F", "p:[::1]?q=1#f"] {
            assert!(is_uri(good), "{good}");
        }
        for bad in [
            "", ":", "p", "p:", ":x", "1p:x", "p q:x", "p:x y", "p:%", "p:%2", "p:%zz", "p:<x>",
            "p:\"x\"", "p:é", "p:x\n", "p:\\x", "p:{x}", "p_q:x",
        ] {
            assert!(!is_uri(bad), "{bad}");
        }
        assert!(is_uri(&format!("p:{}", "x".repeat(126))));
        assert!(!is_uri(&format!("p:{}", "x".repeat(127))));
    }

    proptest::proptest! {
        /// Expressions of listed parts are good, and no longer so with one more part at either end.
        #[test]
        fn what_is_joined_well_is_good(
            parts in proptest::collection::vec(0_usize..4, 1..5),
            operators in proptest::collection::vec(proptest::bool::ANY, 5),
            text in "[ -~]{0,24}",
        ) {
            let words = ["MIT", "Apache-2.0+", "(LicenseRef-x)", "GPL-2.0-only WITH GCC-exception-2.0"];
            let mut whole = String::new();
            for (part, and) in parts.iter().zip(operators) {
                if !whole.is_empty() {
                    whole.push_str(if and { " AND " } else { " OR " });
                }
                whole.push_str(words[*part]);
            }
            if whole.len() <= limits::WORD_BYTES_MAX {
                proptest::prop_assert!(is_licence(&whole));
            }
            for broken in [format!("{whole} OR"), format!("AND {whole}"), format!("({whole}"), format!("{whole} MIT")] {
                proptest::prop_assert!(!is_licence(&broken));
            }
            // Whatever is taken has letters of one line only, and the same meaning to `spdx`.
            if is_licence(&text) {
                proptest::prop_assert!(Expression::parse(&text).is_ok());
            }
            if let Some([major, minor, patch]) = normal_version(&text) {
                proptest::prop_assert_eq!(format!("{major}.{minor}.{patch}"), text);
            }
        }
    }
}
