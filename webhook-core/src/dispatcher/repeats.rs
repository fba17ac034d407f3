//! What a receiver repeats of its endpoint's secrets is not kept. They are sealed in the endpoint's row; in the attempt's
//! they would stand in clear, and whoever may read attempts would see them.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use memchr::memmem;
use url::form_urlencoded::byte_serialize;

use crate::endpoint::Endpoint;
use crate::header_log::HIDDEN;

/// The secrets that an endpoint's requests carry, in the forms in which a receiver may repeat them.
pub(super) struct Repeats<'a>(Vec<Cow<'a, [u8]>>);

impl<'a> Repeats<'a> {
    /// A secret header, what follows its scheme, or a whole query is not looked for if it is shorter: it would be found
    /// everywhere.
    const SHORTEST: usize = 4;
    /// The same for a value within a query, a password, and a secret that the end of what is kept cuts off.
    const SHORTEST_PART: usize = 8;

    /// None if the endpoint has neither a secret header nor a query.
    pub(super) fn of(endpoint: &'a Endpoint) -> Option<Self> {
        let mut repeats = Self(Vec::new());
        for value in endpoint.settings.headers.as_map().values() {
            if value.is_sensitive() {
                repeats.add_header(value.as_bytes());
            }
        }
        if let Some(query) = endpoint.url.as_url().query() {
            repeats.add(query.as_bytes(), Self::SHORTEST);
            for pair in query.split('&') {
                let value = pair.split_once('=').map_or(pair, |(_, value)| value);
                repeats.add(value.as_bytes(), Self::SHORTEST_PART);
            }
            for (_, value) in endpoint.url.as_url().query_pairs() {
                repeats.add(value.into_owned().into_bytes(), Self::SHORTEST_PART);
            }
        }
        repeats.0.sort_unstable();
        repeats.0.dedup();
        (!repeats.0.is_empty()).then_some(repeats)
    }

    /// Hides them in all values.
    pub(super) fn hide_in_headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            if let Some(hidden) = self.hidden(value.as_bytes(), false) {
                let hidden = HeaderValue::from_bytes(&hidden);
                *value = hidden.unwrap_or(HeaderValue::from_static("***"));
            }
        }
    }

    /// Hides them in a body; if that was cut, also one that begins before its end.
    pub(super) fn hide_in_body(&self, body: Bytes, is_cut: bool) -> Bytes {
        self.hidden(&body, is_cut).map_or(body, Bytes::from)
    }

    /// A header's value, and what follows its scheme, if it has one: the credentials, as they are and decoded.
    fn add_header(&mut self, value: &'a [u8]) {
        self.add(value, Self::SHORTEST);
        let Some(space) = memchr::memchr(b' ', value) else {
            return;
        };
        let (scheme, credentials) = value.split_at(space);
        let credentials = credentials.trim_ascii();
        self.add(credentials, Self::SHORTEST);
        if scheme.eq_ignore_ascii_case(b"basic")
            && let Ok(plain) = STANDARD.decode(credentials)
        {
            if let Some(colon) = memchr::memchr(b':', &plain) {
                self.add(plain[colon + 1..].to_vec(), Self::SHORTEST_PART);
            }
            self.add(plain, Self::SHORTEST);
        }
    }

    /// As it is, as a URL's query or a form has it, and as JSON does, with and without a mark before each slash.
    fn add(&mut self, secret: impl Into<Cow<'a, [u8]>>, shortest: usize) {
        let secret = secret.into();
        if secret.len() < shortest {
            return;
        }
        let encoded: String = byte_serialize(&secret).collect();
        let mut forms = vec![encoded];
        if let Ok(text) = str::from_utf8(&secret)
            && let Ok(json) = serde_json::to_string(text)
        {
            let json = json[1..json.len() - 1].to_owned();
            forms.push(json.replace('/', "\\/"));
            forms.push(json);
        }
        let others = forms.into_iter().map(String::into_bytes);
        let others = others.filter(|form| *form != *secret).map(Cow::Owned);
        self.0.extend(others.collect::<Vec<_>>());
        self.0.push(secret);
    }

    /// The text with `***` in the place of each secret; none if it holds no secret.
    fn hidden(&self, text: &[u8], is_cut: bool) -> Option<Vec<u8>> {
        let found = self.found_in(text, is_cut);
        if found.is_empty() {
            return None;
        }
        let mut hidden = Vec::with_capacity(text.len());
        let mut at = 0;
        for Range { start, end } in found {
            // Two may overlap: a header holds its credentials.
            if start >= at {
                hidden.extend_from_slice(&text[at..start]);
                hidden.extend_from_slice(HIDDEN);
            }
            at = at.max(end);
        }
        hidden.extend_from_slice(&text[at..]);
        Some(hidden)
    }

    /// Where secrets are, by their start.
    fn found_in(&self, text: &[u8], is_cut: bool) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for secret in &self.0 {
            let starts = memmem::find_iter(text, secret);
            found.extend(starts.map(|start| start..start + secret.len()));
            if is_cut {
                found.extend(cut_off(text, secret));
            }
        }
        found.sort_unstable_by_key(|range| range.start);
        found
    }
}

/// The longest beginning of a secret that is the text's end.
fn cut_off(text: &[u8], secret: &[u8]) -> Option<Range<usize>> {
    let lengths = Repeats::SHORTEST_PART..secret.len().min(text.len() + 1);
    let mut lengths = lengths.rev();
    let cut = lengths.find(|len| text.ends_with(&secret[..*len]))?;
    Some(text.len() - cut..text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &[u8] = b"Bearer a/b+c\"d-0123456789";

    fn repeats() -> Repeats<'static> {
        let mut repeats = Repeats(Vec::new());
        repeats.add_header(TOKEN);
        repeats
    }

    #[test]
    fn a_secret_is_found_in_each_form_and_the_rest_is_left() {
        for (text, expected) in [
            (r#"<Bearer a/b+c"d-0123456789>"#, "<***>"),
            (r#"<a/b+c"d-0123456789>, "#, "<***>, "),
            ("?t=a%2Fb%2Bc%22d-0123456789&u=1", "?t=***&u=1"),
            (r#"{"t":"a/b+c\"d-0123456789"}"#, r#"{"t":"***"}"#),
            (r#"{"t":"a\/b+c\"d-0123456789"}"#, r#"{"t":"***"}"#),
        ] {
            let hidden = repeats().hide_in_body(Bytes::from(text), false);
            assert_eq!(hidden, expected, "{text}");
        }
        for text in ["", "Bearer ", r#"a/b+c"d-012345678"#, "0123456789"] {
            let same = repeats().hide_in_body(Bytes::from(text), false);
            assert_eq!(same, text);
        }
    }

    #[test]
    fn a_secret_that_the_end_cuts_off_is_found_by_its_first_bytes() {
        let whole = [b"echo: ", TOKEN].concat();
        for len in 0..=TOKEN.len() {
            let text = Bytes::copy_from_slice(&whole[..whole.len() - TOKEN.len() + len]);
            let hidden = repeats().hide_in_body(text.clone(), true);
            if len < Repeats::SHORTEST_PART {
                assert_eq!(hidden, text);
            } else {
                assert_eq!(hidden, "echo: ***", "{len}");
            }
        }
        let cut = Bytes::from_static(b"x a/b+c\"d-");
        assert_eq!(repeats().hide_in_body(cut.clone(), true), "x ***");
        assert_eq!(repeats().hide_in_body(cut.clone(), false), cut);
    }

    #[test]
    fn a_password_is_found_without_its_encoding_and_what_is_short_is_not_looked_for() {
        let mut repeats = Repeats(Vec::new());
        repeats.add_header(b"basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let hidden = |text: &'static str| repeats.hide_in_body(Bytes::from(text), false);
        assert_eq!(hidden("QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), "***");
        assert_eq!(hidden("Aladdin:open sesame."), "***.");
        assert_eq!(hidden("open+sesame, Aladdin"), "***, Aladdin");

        let mut none = Repeats(Vec::new());
        none.add_header(b"abc");
        assert!(none.0.is_empty());
    }
}
