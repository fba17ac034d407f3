//! No way into private networks: the verdict on every recorded case, and what an attacker's DNS, HTTP
//! answers and the process's environment can do about it.
#![allow(clippy::unwrap_used, reason = "test helpers are tests too")]
#![allow(
    clippy::duplicate_mod,
    reason = "each transport is to pass the same tests"
)]

mod properties;

use std::net::IpAddr;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use webhook_core::{Blocked, EndpointUrl, Network, NetworkPolicy};

/// What the tests below build and are of.
macro_rules! guarded {
    ($transport:ident, $build:ident) => {
        pub(crate) type Guarded = webhook_core::$transport;

        /// Builds it.
        pub(crate) trait Guards {
            fn guarded(self) -> Result<Guarded, webhook_core::BuildTransportError>;
        }

        impl Guards for webhook_core::HttpTransportBuilder {
            fn guarded(self) -> Result<Guarded, webhook_core::BuildTransportError> {
                self.$build()
            }
        }
    };
}

#[path = "."]
mod over_hyper {
    mod attacks;
    mod dispatcher;
    mod layers;
    mod scenarios;
    mod transport;

    use super::{cases, network};

    guarded!(HttpTransport, build);
}

#[cfg(feature = "reqwest")]
#[path = "."]
mod over_reqwest {
    mod attacks;
    mod dispatcher;
    mod layers;
    mod scenarios;
    mod transport;

    use super::{cases, network};

    guarded!(ReqwestTransport, build_reqwest);
}

/// The cases, as reviewed by people.
const CASES: &str = include_str!("../data/ssrf.json");

#[derive(Deserialize)]
struct Cases {
    blocklist: Vec<Listed>,
    never_overridable_hosts: Vec<IpAddr>,
    blocked_name_suffixes: Vec<String>,
    ip_cases: Vec<IpCase>,
    url_cases: Vec<UrlCase>,
    scenario_cases: Vec<ScenarioCase>,
}

#[derive(Deserialize)]
struct Listed {
    cidr: String,
    tier: String,
}

#[derive(Deserialize)]
struct IpCase {
    ip: IpAddr,
    verdict: String,
}

#[derive(Deserialize)]
struct UrlCase {
    id: String,
    url: String,
    policy: String,
    #[serde(default)]
    dns: Vec<IpAddr>,
    verdict: String,
    stage: String,
    whatwg_host: Option<String>,
}

#[derive(Deserialize)]
struct ScenarioCase {
    id: String,
}

impl UrlCase {
    fn url(&self) -> String {
        match self.url.split_once("...(driver: pad to 2049 bytes)") {
            Some((head, "")) => format!("{head}{}", "a".repeat(2049 - head.len())),
            _ => self.url.clone(),
        }
    }

    /// `default`, or settings joined by `+`: `allow_http`, `allow_nets=10.1.0.0/16`.
    fn policy(&self) -> NetworkPolicy {
        let mut policy = NetworkPolicy::builder();
        for setting in self.policy.split('+') {
            policy = match setting.split_once('=').unwrap_or((setting, "")) {
                ("default", _) => policy,
                ("allow_http", _) => policy.allow_http(true),
                ("allow_private", _) => policy.allow_private(true),
                ("allow_nets", network) => policy.allow_networks([network.parse().unwrap()]),
                ("deny_nets", network) => policy.deny_networks([network.parse().unwrap()]),
                other => panic!("{}: unknown policy {other:?}", self.id),
            };
        }
        policy.build()
    }

    /// What becomes of the URL, in the words of the cases.
    fn outcome(&self) -> &'static str {
        let policy = self.policy();
        let Ok(url) = self.url().parse::<EndpointUrl>() else {
            return "reject";
        };
        let verdict = policy
            .check_url(&url)
            .and_then(|()| policy.check_answers(&self.dns));
        match verdict {
            Err(Blocked::Address { .. }) => "block",
            Err(_) => "reject",
            Ok(()) if url.ip().is_none() && self.dns.is_empty() => "error",
            Ok(()) => "allow",
        }
    }

    /// Whether it takes a look-up to tell.
    fn is_up_to_dns(&self) -> bool {
        self.stage == "resolve"
    }

    /// The verdict that a URL gets by itself.
    fn verdict_on_url(&self) -> &str {
        if self.is_up_to_dns() {
            "allow"
        } else {
            &self.verdict
        }
    }
}

fn cases() -> Cases {
    serde_json::from_str(CASES).unwrap()
}

fn network(text: &str) -> Network {
    text.parse().unwrap()
}

#[test]
fn every_url_case_ends_as_recorded() {
    let cases = cases().url_cases;
    assert_eq!(cases.len(), 85);
    for case in cases {
        assert_eq!(case.outcome(), case.verdict, "{}", case.id);
    }
}

#[test]
fn hosts_are_read_as_browsers_read_them() {
    for case in cases().url_cases {
        if let Ok(url) = case.url().parse::<EndpointUrl>() {
            let expected = case.whatwg_host.unwrap();
            assert_eq!(url.host(), expected.trim_end_matches('.'), "{}", case.id);
        }
    }
}

#[test]
fn every_address_case_is_judged_as_recorded() {
    let cases = cases().ip_cases;
    assert_eq!(cases.len(), 94);
    for case in cases {
        let verdict = NetworkPolicy::default().check_address(case.ip);
        assert_eq!(verdict.is_ok(), case.verdict == "allow", "{}", case.ip);
    }
}

#[test]
fn every_listed_range_is_blocked_and_its_tier_says_what_lifts_that() {
    let all = ["0.0.0.0/0", "::/0"].map(network);
    let by_default = NetworkPolicy::default();
    let private = NetworkPolicy::builder().allow_private(true).build();
    let everything = NetworkPolicy::builder().allow_networks(all).build();
    let listed = cases().blocklist;
    assert_eq!(listed.len(), 38);
    for Listed { cidr, tier } in listed {
        let first: IpAddr = cidr.split('/').next().unwrap().parse().unwrap();
        assert!(by_default.check_address(first).is_err(), "{cidr}");
        let lifted = [&private, &everything].map(|policy| policy.check_address(first).is_ok());
        let expected = match tier.as_str() {
            "hard" => [false, false],
            "std" => [true, true],
            "overdeny" => [false, true],
            other => panic!("unknown tier {other}"),
        };
        assert_eq!(lifted, expected, "{cidr}");
    }
}

#[test]
fn metadata_services_cannot_be_allowed() {
    let policy = NetworkPolicy::builder()
        .allow_private(true)
        .allow_networks(["0.0.0.0/0", "::/0"].map(network))
        .build();
    for ip in cases().never_overridable_hosts {
        assert!(policy.check_address(ip).is_err(), "{ip}");
    }
}

#[test]
fn names_outside_of_the_public_dns_are_blocked() {
    for suffix in cases().blocked_name_suffixes {
        for name in [suffix.clone(), format!("a.b.{suffix}")] {
            let url: EndpointUrl = format!("https://{name}/").parse().unwrap();
            let verdict = NetworkPolicy::default().check_url(&url);
            assert_eq!(verdict, Err(Blocked::Name), "{name}");
        }
        let url = format!("https://x{suffix}.example.com/").parse().unwrap();
        assert_eq!(NetworkPolicy::default().check_url(&url), Ok(()));
    }
}

#[test]
fn an_embedded_ipv4_address_is_judged_as_itself() {
    let policies = [
        NetworkPolicy::default(),
        NetworkPolicy::builder()
            .allow_networks(["10.0.0.0/8", "192.31.196.0/24"].map(network))
            .deny_networks(["10.1.0.0/16", "8.0.0.0/8"].map(network))
            .build(),
    ];
    let [nat64, isatap] = ["64:ff9b::", "2600:1f00::5efe:0:0"]
        .map(|prefix| prefix.parse::<std::net::Ipv6Addr>().unwrap());
    let mut rng = StdRng::seed_from_u64(6052);
    for round in 0..50_000 {
        // Every other address from the neighbourhoods that the list is about.
        let first = [0, 10, 100, 127, 168, 169, 172, 192, 198, 203][round % 10];
        let random: u32 = rng.random();
        let v4 = match round % 2 {
            0 => std::net::Ipv4Addr::from(random),
            _ => std::net::Ipv4Addr::from((random & 0x00ff_ffff) | (first << 24)),
        };
        let behind =
            |prefix| std::net::Ipv6Addr::from(u128::from(prefix) | u128::from(u32::from(v4)));
        let embeddings = [behind(nat64), behind(isatap), v4.to_ipv6_mapped()];
        for policy in &policies {
            let expected = policy.check_address(v4.into()).is_ok();
            for v6 in embeddings {
                let verdict = policy.check_address(v6.into());
                assert_eq!(verdict.is_ok(), expected, "{v4} as {v6}");
            }
        }
    }
}
