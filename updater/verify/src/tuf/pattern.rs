//! Which paths a delegation covers.

/// TUF's path patterns: `*` and `?` match within one component, components must be as many.
pub(crate) fn matches_path(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if matches_part(pattern.as_bytes(), part.as_bytes()) => {}
            _ => return false,
        }
    }
}

/// Greedy with one point to return to, so it takes at most the product of the lengths.
fn matches_part(mut pattern: &[u8], mut part: &[u8]) -> bool {
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), part.split_first()) {
            (Some((b'*', rest)), _) => {
                retry = Some((rest, part));
                pattern = rest;
            }
            (Some((want, rest)), Some((have, tail))) if want == have || *want == b'?' => {
                (pattern, part) = (rest, tail);
            }
            (None, None) => return true,
            _ => {
                let Some((after_star, from)) = retry else { return false };
                let Some((_, tail)) = from.split_first() else { return false };
                retry = Some((after_star, tail));
                (pattern, part) = (after_star, tail);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_its_component() {
        for (pattern, path, expected) in [
            ("demo/*", "demo/1.0.0.json", true),
            ("demo/*", "demo/a/b.json", false),
            ("demo/*", "demo", false),
            ("demo/*", "other/1.json", false),
            ("*/*", "demo/1.json", true),
            ("d?mo/1.*.json", "demo/1.2.3.json", true),
            ("d?mo/1.*.json", "demo/2.json", false),
            ("*a*a*a*b", &"a".repeat(2000), false),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(matches_path(pattern, path), expected, "{pattern}");
        }
    }
}
