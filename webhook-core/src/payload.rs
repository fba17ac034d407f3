//! Checks JSON text without changing or copying it.

use serde::de::IgnoredAny;

/// The deepest nesting of arrays and objects that is accepted: what common JSON parsers can read.
const MAX_DEPTH: usize = 128;

/// Why bytes are not an acceptable JSON payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPayload {
    /// Not one JSON value in UTF-8.
    #[error("not valid JSON: {0}")]
    Syntax(String),
    /// Arrays and objects are nested deeper than 128.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Checks that `text` is one JSON value in UTF-8, nested at most 128 deep.
///
/// Numbers of any size, duplicate keys and escaped NULs are JSON and pass: the text travels as it is.
pub(crate) fn check(text: &[u8]) -> Result<(), InvalidPayload> {
    if opening_brackets(text) > MAX_DEPTH && depth(text) > MAX_DEPTH {
        return Err(InvalidPayload::TooDeep);
    }
    let text =
        std::str::from_utf8(text).map_err(|error| InvalidPayload::Syntax(error.to_string()))?;
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|error| InvalidPayload::Syntax(error.to_string()))?;
    Ok(())
}

/// A quick upper bound of the depth, for the usual text that has fewer brackets than the limit.
fn opening_brackets(text: &[u8]) -> usize {
    // Bytes summed as bytes, in runs that cannot overflow: compilers make vector code of it.
    let in_run = |run: &[u8]| {
        run.iter()
            .map(|byte| u8::from(matches!(byte, b'[' | b'{')))
            .sum::<u8>()
    };
    text.chunks(usize::from(u8::MAX))
        .map(|run| usize::from(in_run(run)))
        .sum()
}

/// How deep brackets outside strings are nested. Meaningful only if `text` turns out to be JSON.
pub(crate) fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_json_passes_whatever_a_parser_would_lose() {
        for text in [
            r#"{"b":1,"a":2,"a":3}"#,
            "1e400",
            "123456789012345678901234567890",
            r#""\u0000""#,
            r#"" 🦀 ""#,
            " { \"a\" : [ ] } ",
            "null",
            r#""[[[[\"[[[""#,
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            &b""[..],
            b"{",
            b"{'a':1}",
            b"nul",
            b"1 2",
            b"\xff",
            b"\"\xc3\x28\"",
            b"01",
            b"NaN",
        ] {
            assert!(
                matches!(check(text), Err(InvalidPayload::Syntax(_))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn nesting_ends_at_128() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(nested(128).as_bytes()), Ok(()));
        assert_eq!(check(nested(129).as_bytes()), Err(InvalidPayload::TooDeep));
        assert_eq!(
            check("[".repeat(1_000_000).as_bytes()),
            Err(InvalidPayload::TooDeep)
        );
    }
}
