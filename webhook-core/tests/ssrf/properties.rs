//! What holds for any URL and any address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use webhook_core::{EndpointUrl, NetworkPolicy};

use super::network;

/// The same cases in each run, and no files about those that failed.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(6890),
        ..ProptestConfig::with_cases(cases)
    }
}

/// Parts of URLs, and what confuses those who take them apart.
const PARTS: &[&str] = &[
    "http",
    "https",
    "HTTPS",
    "ftp",
    ":",
    "//",
    "/",
    "\\",
    "\\\\",
    "@",
    "#",
    "?",
    "%",
    "%2f",
    "%00",
    "%31",
    "[",
    "]",
    "::",
    "::1",
    "::ffff:",
    "fe80::1",
    "%25eth0",
    "127",
    ".",
    "0",
    "1",
    "0x7f",
    "0177",
    "2130706433",
    "169.254.169.254",
    "10.0.0.1",
    "8.8.8.8",
    "localhost",
    "internal",
    "example",
    "com",
    "xn--",
    "bücher",
    "。",
    "．",
    "１２７",
    "\u{ad}",
    "\u{200b}",
    "\u{202e}",
    "\t",
    "\n",
    "\r",
    "\0",
    " ",
    "80",
    "443",
    "0",
    "65536",
    "-",
    "_",
    "..",
    "user",
    "a",
    "é",
    "ß",
    "ı",
];

fn url_like() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => prop::sample::select(PARTS).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    let rest = prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat());
    let start = prop::sample::select(vec![
        "",
        "http://",
        "https://",
        "https:",
        "http:\\\\",
        " http:/",
    ]);
    (start, rest).prop_map(|(start, rest)| start.to_owned() + &rest)
}

/// A name that resolvers written in C would read as a number.
fn is_a_number(host: &str) -> bool {
    let is_digit = |it: &str, radix| !it.is_empty() && it.chars().all(|c| c.is_digit(radix));
    let last = host.rsplit('.').next().unwrap_or_default();
    is_digit(last, 10) || last.strip_prefix("0x").is_some_and(|hex| is_digit(hex, 16))
}

fn check_accepted(url: &EndpointUrl) -> Result<(), TestCaseError> {
    let text = url.as_str();
    prop_assert_eq!(text.parse::<EndpointUrl>(), Ok(url.clone()));
    prop_assert!(
        text.bytes().all(|byte| (0x21..0x7f).contains(&byte)),
        "{}",
        text
    );
    prop_assert!(!text.contains('#') && !url.host().contains('@'));
    // Who reads only the request's URI reads the same.
    prop_assert_eq!(EndpointUrl::try_from(url.uri()), Ok(url.clone()));
    prop_assert_eq!(url.uri().host(), Some(url.host()));
    let bare = url.host().trim_matches(['[', ']']);
    prop_assert_eq!(bare.parse::<IpAddr>().ok(), url.ip());
    prop_assert!(url.ip().is_some() || !is_a_number(url.host()), "{}", text);
    let _ = format!("{url:?} {}", url.redacted());
    Ok(())
}

fn check_verdict(policy: &NetworkPolicy, url: &EndpointUrl) -> Result<(), TestCaseError> {
    if policy.check_url(url).is_ok() {
        match url.ip() {
            Some(ip) => prop_assert!(policy.check_address(ip).is_ok(), "{}", url),
            None => prop_assert!(
                url.host().contains('.') && !url.host().ends_with(".localhost"),
                "{}",
                url
            ),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(4_096))]

    #[test]
    fn no_text_breaks_the_checks_and_what_is_accepted_is_canonical(text in url_like()) {
        if let Ok(url) = text.parse::<EndpointUrl>() {
            check_accepted(&url)?;
            check_verdict(&NetworkPolicy::default(), &url)?;
            check_verdict(&NetworkPolicy::builder().allow_http(true).build(), &url)?;
        }
    }

    #[test]
    fn no_address_in_a_url_gets_another_verdict_than_the_address(ip: IpAddr, port in 1_u16..) {
        let host = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let url: EndpointUrl = format!("https://{host}:{port}/").parse().unwrap();
        prop_assert_eq!(url.ip(), Some(ip));
        let policy = NetworkPolicy::builder().allow_ports([port]).build();
        prop_assert_eq!(policy.check_url(&url), policy.check_address(ip));
    }

    #[test]
    fn transition_addresses_are_never_permitted(v4: u32, low: u64) {
        let everything = NetworkPolicy::builder()
            .allow_private(true)
            .allow_networks(["0.0.0.0/0", "::/0"].map(network))
            .build();
        let (v4, low) = (u128::from(v4), u128::from(low));
        let address = |text: &str| u128::from(text.parse::<Ipv6Addr>().unwrap());
        let addresses = [
            ("IPv4-compatible", v4),
            ("IPv4-translated", address("::ffff:0:0:0") | v4),
            ("local NAT64", address("64:ff9b:1::") | (low << 32 >> 48 << 32) | v4),
            ("6to4", address("2002::") | (v4 << 80) | low),
            ("Teredo", address("2001::") | (v4 << 64) | low),
            ("site-local", address("fec0::") | low),
            ("link-local", address("fe80::") | low),
        ];
        for (kind, ip) in addresses {
            // `::1` is what may be allowed.
            if ip != 1 {
                let verdict = everything.check_address(Ipv6Addr::from(ip).into());
                prop_assert!(verdict.is_err(), "{}: {}", kind, Ipv6Addr::from(ip));
            }
        }
    }

    #[test]
    fn a_permitted_answer_does_not_hide_a_forbidden_one(
        mut answers in prop::collection::vec(any::<u32>().prop_map(Ipv4Addr::from), 0..20),
        place: prop::sample::Index,
    ) {
        let policy = NetworkPolicy::default();
        answers.retain(|ip| policy.check_address((*ip).into()).is_ok());
        let mut answers: Vec<IpAddr> = answers.into_iter().map(IpAddr::V4).collect();
        prop_assert!(policy.check_answers(&answers).is_ok());
        answers.insert(place.index(answers.len() + 1), Ipv4Addr::LOCALHOST.into());
        prop_assert!(policy.check_answers(&answers).is_err());
    }
}
