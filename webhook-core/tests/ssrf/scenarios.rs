//! What takes more than one step: each recorded scenario, and the test that plays it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use webhook_core::{
    Attempt, CustomHeaders, DeliveryStatus, Failure, HttpTransportBuilder, InvalidHeader,
    NetworkPolicy, NewEndpoint, Outcome, Resolve, TransportErrorKind,
};

use super::dispatcher::{World, failed_with};
use super::transport::{LOOPBACK, Panics, Scripted, loopback, server, tripwire, untouched};
use super::{Guarded, Guards, cases, network};

const DAY: Duration = Duration::from_secs(86_400);

/// Only what is due at once.
const NOW: Duration = Duration::ZERO;

/// Which test plays which scenario: its file below `webhook-core`, and its name.
const PLAYED: [(&str, &str, &str); 19] = [
    (
        "rebind-ttl0",
        "tests/ssrf/scenarios.rs",
        "an_attempt_takes_one_lookup_and_dials_what_was_judged",
    ),
    (
        "rebind-between-create-and-send",
        "tests/ssrf/scenarios.rs",
        "a_name_that_moved_since_its_registration_is_blocked",
    ),
    (
        "rebind-between-retries",
        "tests/ssrf/scenarios.rs",
        "a_name_that_moves_between_two_tries_is_blocked_at_the_next",
    ),
    (
        "redirect-302-private",
        "tests/ssrf/scenarios.rs",
        "a_3xx_is_a_failure_and_nobody_goes_where_it_points",
    ),
    (
        "redirect-307-308",
        "tests/ssrf/scenarios.rs",
        "a_3xx_is_a_failure_and_nobody_goes_where_it_points",
    ),
    (
        "redirect-304-success",
        "tests/ssrf/scenarios.rs",
        "a_3xx_is_a_failure_and_nobody_goes_where_it_points",
    ),
    (
        "proxy-env",
        "tests/ssrf/transport.rs",
        "proxies_from_the_environment_are_ignored",
    ),
    (
        "literal-bypasses-resolver",
        "tests/ssrf/scenarios.rs",
        "a_literal_is_blocked_and_the_resolver_not_asked",
    ),
    (
        "pool-cross-policy",
        "tests/ssrf/scenarios.rs",
        "an_idle_connection_of_a_laxer_policy_is_not_used",
    ),
    (
        "pool-stale-after-deny",
        "tests/ssrf/scenarios.rs",
        "an_idle_connection_of_a_laxer_policy_is_not_used",
    ),
    (
        "happy-eyeballs",
        "tests/ssrf/transport.rs",
        "one_forbidden_answer_forbids_the_name",
    ),
    (
        "dns-slow",
        "tests/ssrf/scenarios.rs",
        "a_silent_name_server_costs_other_endpoints_nothing",
    ),
    (
        "dns-search-domain",
        "tests/ssrf/scenarios.rs",
        "names_are_looked_up_as_absolute_ones",
    ),
    (
        "dns-many-answers",
        "tests/ssrf/transport.rs",
        "a_thousand_permitted_answers_still_connect",
    ),
    (
        "host-header-custom",
        "tests/ssrf/scenarios.rs",
        "the_host_header_is_the_urls",
    ),
    (
        "sni-matches",
        "tests/ssrf/transport.rs",
        "the_certificate_is_checked_against_the_urls_name",
    ),
    (
        "error-oracle",
        "tests/ssrf/transport.rs",
        "a_tenant_cannot_tell_blocked_closed_and_unknown_apart",
    ),
    (
        "test-endpoint-and-ping",
        "tests/ssrf/scenarios.rs",
        "what_is_sent_on_request_goes_through_the_same_guard",
    ),
    (
        "connect-peer-addr",
        "src/transport/http/http1/mod.rs",
        "a_forbidden_peer_is_sent_nothing",
    ),
];

#[test]
fn every_scenario_has_its_test() {
    let recorded: BTreeSet<String> = cases().scenario_cases.into_iter().map(|it| it.id).collect();
    let played: BTreeSet<String> = PLAYED.iter().map(|(id, ..)| (*id).to_owned()).collect();
    assert_eq!(recorded, played);
    for (id, file, name) in PLAYED {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let source = fs::read_to_string(file).unwrap();
        let lines: Vec<_> = source.lines().map(str::trim).collect();
        let is_test = lines.windows(2).any(|pair| {
            let of_name = format!("fn {name}()");
            matches!(pair[0], "#[test]" | "#[tokio::test]") && pair[1].contains(&of_name)
        });
        assert!(is_test, "{id} is to be played by {name}");
    }
}

fn private() -> IpAddr {
    [10, 0, 0, 1].into()
}

/// May reach test servers on loopback.
fn local() -> NetworkPolicy {
    let policy = NetworkPolicy::builder().allow_http(true);
    policy.allow_networks([network("127.0.0.0/8")]).build()
}

/// Where everything behind `transport` is on loopback.
fn world(transport: HttpTransportBuilder) -> World {
    World::new(local(), transport.guarded().unwrap())
}

fn statuses(attempts: &[Attempt]) -> Vec<Option<u16>> {
    let status = |attempt: &Attempt| match attempt.outcome {
        Outcome::Response { status, .. } => Some(status),
        Outcome::Failed(_) => None,
    };
    attempts.iter().map(status).collect()
}

#[tokio::test]
async fn an_attempt_takes_one_lookup_and_dials_what_was_judged() {
    let (port, requests) = server("HTTP/1.1 200 OK").await;
    let resolver = Scripted::new([vec![LOOPBACK], vec![private()]]);
    let world = world(loopback().resolver(resolver.clone()));
    let url = format!("http://hooks.example.com:{port}/");
    world.smuggle(url.parse().unwrap()).await;
    let (delivery, attempts) = world.deliver(DAY).await;
    assert_eq!(delivery.status, DeliveryStatus::Succeeded);
    assert_eq!(statuses(&attempts), [Some(200)]);
    assert_eq!(resolver.calls(), 1);
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_name_that_moved_since_its_registration_is_blocked() {
    let resolver = Scripted::new(vec![vec![private()]; 6]);
    let transport = Guarded::builder().resolver(resolver.clone());
    let world = World::new(NetworkPolicy::default(), transport.guarded().unwrap());
    let new = NewEndpoint::new("https://hooks.example.com/in".parse().unwrap());
    world.dispatcher.endpoints().create(new).await.unwrap();
    let (delivery, attempts) = world.deliver(DAY).await;
    assert_eq!(delivery.status, DeliveryStatus::Failed);
    let kinds: Vec<_> = attempts.iter().filter_map(failed_with).collect();
    assert_eq!(kinds, [TransportErrorKind::Blocked; 6]);
    // It was trusted at no try.
    assert_eq!(resolver.calls(), 6);
}

#[tokio::test]
async fn a_name_that_moves_between_two_tries_is_blocked_at_the_next() {
    let (port, requests) = server("HTTP/1.1 500 Oops").await;
    let resolver = Scripted::new([vec![LOOPBACK], vec![private()], vec![LOOPBACK]]);
    let world = world(loopback().resolver(resolver).max_idle_per_host(0));
    let url = format!("http://hooks.example.com:{port}/");
    world.smuggle(url.parse().unwrap()).await;
    let (_, attempts) = world.deliver(Duration::from_secs(3_600)).await;
    assert_eq!(statuses(&attempts)[..3], [Some(500), None, Some(500)]);
    assert_eq!(failed_with(&attempts[1]), Some(TransportErrorKind::Blocked));
    assert_eq!(requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_3xx_is_a_failure_and_nobody_goes_where_it_points() {
    for status in [301, 302, 303, 304, 307, 308] {
        let (listener, elsewhere) = tripwire();
        let head = format!("HTTP/1.1 {status} X\r\nlocation: http://127.0.0.1:{elsewhere}/");
        let (port, requests) = server(&head).await;
        let world = world(loopback());
        let url = format!("http://127.0.0.1:{port}/");
        world.smuggle(url.parse().unwrap()).await;
        let (delivery, attempts) = world.deliver(NOW).await;
        assert_eq!(statuses(&attempts), [Some(status)]);
        assert_eq!(delivery.last_error, Some(Failure::Status(status)));
        assert_ne!(delivery.status, DeliveryStatus::Succeeded);
        assert_eq!(requests.lock().unwrap().len(), 1);
        assert!(untouched(&listener), "{status}");
    }
}

#[tokio::test]
async fn a_literal_is_blocked_and_the_resolver_not_asked() {
    let (listener, port) = tripwire();
    for host in ["127.0.0.1", "0x7f.1", "[::ffff:7f00:1]"] {
        let policy = NetworkPolicy::builder().allow_http(true).build();
        let transport = Guarded::builder().policy(policy.clone());
        let world = World::new(policy, transport.resolver(Panics).guarded().unwrap());
        let url = format!("http://{host}:{port}/");
        world.smuggle(url.parse().unwrap()).await;
        let (_, attempts) = world.deliver(NOW).await;
        let kinds: Vec<_> = attempts.iter().filter_map(failed_with).collect();
        assert_eq!(kinds, [TransportErrorKind::Blocked], "{host}");
    }
    assert!(untouched(&listener));
}

/// Another tenant's policy, and the same tenant's after an operator has made it stricter: a policy is its
/// transport's for good, and so are that one's connections.
#[tokio::test]
async fn an_idle_connection_of_a_laxer_policy_is_not_used() {
    let (port, requests) = server("HTTP/1.1 200 OK").await;
    let url = format!("http://hooks.example.com:{port}/");
    let answers = || Scripted::new(vec![vec![LOOPBACK]; 2]);
    let lax = world(loopback().resolver(answers()));
    lax.smuggle(url.parse().unwrap()).await;
    assert_eq!(statuses(&lax.deliver(NOW).await.1), [Some(200)]);

    let http = NetworkPolicy::builder().allow_http(true);
    let denying = http.clone().allow_networks([network("127.0.0.0/8")]);
    let denying = denying.deny_networks([network("127.0.0.1")]);
    for stricter in [http.build(), denying.build()] {
        let transport = Guarded::builder().policy(stricter.clone());
        let transport = transport.resolver(answers()).guarded().unwrap();
        let strict = World::new(stricter, transport);
        strict.smuggle(url.parse().unwrap()).await;
        let (_, attempts) = strict.deliver(NOW).await;
        assert_eq!(failed_with(&attempts[0]), Some(TransportErrorKind::Blocked));
    }
    // The connection is still good for who made it.
    assert_eq!(statuses(&lax.deliver(NOW).await.1), [Some(200)]);
    assert_eq!(requests.lock().unwrap().len(), 2);
}

/// Answers for one name never, for all others at once.
struct Slow;

#[async_trait]
impl Resolve for Slow {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        if name.starts_with("slow.") {
            std::future::pending::<()>().await;
        }
        Ok(vec![LOOPBACK])
    }
}

#[tokio::test]
async fn a_silent_name_server_costs_other_endpoints_nothing() {
    let (port, requests) = server("HTTP/1.1 200 OK").await;
    let transport = loopback().resolver(Slow);
    let world = world(transport.dns_timeout(Duration::from_millis(20)));
    for host in ["slow", "a", "b"] {
        let url = format!("http://{host}.example.com:{port}/");
        world.smuggle(url.parse().unwrap()).await;
    }
    let all = world.deliver_all(NOW).await;
    let kinds = all.iter().filter_map(|it| failed_with(&it[0]));
    assert_eq!(kinds.collect::<Vec<_>>(), [TransportErrorKind::Dns]);
    assert_eq!(requests.lock().unwrap().len(), 2);
}

/// Knows one name, with its dot.
struct Absolute;

#[async_trait]
impl Resolve for Absolute {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        match name {
            "api.example.com." => Ok(vec![LOOPBACK]),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

#[tokio::test]
async fn names_are_looked_up_as_absolute_ones() {
    let (port, _) = server("HTTP/1.1 200 OK").await;
    for dot in ["", "."] {
        let world = world(loopback().resolver(Absolute));
        let url = format!("http://api.example.com{dot}:{port}/");
        world.smuggle(url.parse().unwrap()).await;
        assert_eq!(statuses(&world.deliver(NOW).await.1), [Some(200)]);
    }
}

#[tokio::test]
async fn the_host_header_is_the_urls() {
    for name in ["Host", "host", "HOST"] {
        let refused = CustomHeaders::new([(name, "internal.example")], []);
        assert_eq!(refused, Err(InvalidHeader::Reserved(name.to_owned())));
    }
    let (port, requests) = server("HTTP/1.1 200 OK").await;
    let world = world(loopback().resolver(Scripted::new([vec![LOOPBACK]])));
    let url = format!("http://HOOKS.example.com.:{port}/");
    world.smuggle(url.parse().unwrap()).await;
    assert_eq!(statuses(&world.deliver(NOW).await.1), [Some(200)]);
    let request = requests.lock().unwrap().remove(0).to_lowercase();
    let hosts: Vec<_> = request.matches("\r\nhost: ").collect();
    assert_eq!(hosts.len(), 1);
    assert!(request.contains(&format!("\r\nhost: hooks.example.com:{port}\r\n")));
}

/// The engine has one transport, and no other way out: what a person sends again is not an exception.
#[tokio::test]
async fn what_is_sent_on_request_goes_through_the_same_guard() {
    let transport = Guarded::builder().resolver(Scripted::new(vec![vec![private()]; 20]));
    let world = World::new(NetworkPolicy::default(), transport.guarded().unwrap());
    world
        .smuggle("https://hooks.example.com/".parse().unwrap())
        .await;
    let (delivery, _) = world.deliver(DAY).await;
    let dispatcher = &world.dispatcher;
    let again = dispatcher.deliveries().replay(delivery.id).await.unwrap();
    world.pass(DAY).await;
    let once_more = dispatcher.events().replay(delivery.event_id).await.unwrap();
    world.pass(DAY).await;
    for id in [again, once_more[0]] {
        let attempts = dispatcher.deliveries().attempts(id).await.unwrap();
        let kinds: Vec<_> = attempts.iter().filter_map(failed_with).collect();
        assert_eq!(kinds, [TransportErrorKind::Blocked; 6]);
    }
}
