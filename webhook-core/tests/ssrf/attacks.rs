//! What an attacker would try beside the recorded cases.

use std::net::IpAddr;

use webhook_core::{Blocked, EndpointUrl, NetworkPolicy, TransportErrorKind};

use super::transport::{Panics, failure};
use super::{Guarded, Guards, network};

/// None may be contacted, not even over `http`.
const REFUSED: &[&str] = &[
    // Metadata services by name, in all spellings.
    "http://metadata.google.internal/",
    "http://metadata.google.internal./",
    "http://metadata.google.internal../",
    "http://METADATA.Google.INTERNAL/",
    "http://metadata.google.ınternal.localhost/",
    "http://metadata/",
    "http://metadata./",
    "http://instance-data.ec2.internal/",
    "http://localhost.localdomain/",
    "http://a.b.localhost./",
    // Their addresses, as inet_aton reads numbers.
    "http://169.254.169.254/",
    "http://169.254.169.254./",
    "http://0251.0376.0251.0376/",
    "http://0xa9.0xfe.0xa9.0xfe/",
    "http://0xA9FEA9FE/",
    "http://2852039166/",
    "http://169.254.43518/",
    "http://169.16689662/",
    "http://0251.0xfe.43518/",
    "http://00000000000251.00376.000251.0376/",
    "http://0x7f.1/",
    "http://017700000001/",
    "http://0/",
    "http://0x/",
    // As IDNA maps and strips characters.
    "http://169。254。169。254/",
    "http://169．254．169．254/",
    "http://169｡254｡169｡254/",
    "http://①⑥⑨.②⑤④.①⑥⑨.②⑤④/",
    "http://𝟙𝟚𝟟.0.0.1/",
    "http://loc\u{ad}alhost/",
    "http://local\u{200b}host/",
    "http://l\u{fe0f}ocalhost/",
    "http://ＬＯＣＡＬＨＯＳＴ/",
    "http://localhost。/",
    // Encoded.
    "http://%31%36%39.254.169.254/",
    "http://%6c%6f%63%61lhost/",
    "http://127.0.0.1%2eexample%2ecom%00/",
    "http://localhost%00.example.com/",
    "http://localhost%0a.example.com/",
    "http://localhost%20/",
    "http://%5b::1%5d/",
    // Where parsers disagree about which part is the host.
    "http://example.com@127.0.0.1/",
    "http://example.com:80@127.0.0.1/",
    "http://example.com%40127.0.0.1/",
    "http://127.0.0.1\\@example.com/",
    "http://127.0.0.1\\.example.com/",
    "http://127.0.0.1#@example.com/",
    "http://127.0.0.1?@example.com/",
    "http://127.0.0.1;@example.com/",
    "http://1.1.1.1 &@127.0.0.1# @8.8.8.8/",
    "http://127.1.1.1:80\\@127.2.2.2:80/",
    "http://127.1.1.1:80:\\@@127.2.2.2:80/",
    "http://0://example.com;:80/",
    "http:127.0.0.1/",
    "http:/127.0.0.1/",
    "http:////127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "http:\\/\\/127.0.0.1/",
    // Control characters, which parsers strip.
    "\u{1} http://127.0.0.1/",
    "ht\ntp://127.0.0.1/",
    "http://127.0.\n0.1/",
    "http://127.0.0.1\t/",
    "h\rttp:\n//127.0.0\r\n.1/",
    "http://example.com\0@127.0.0.1/",
    // IPv4 inside of IPv6.
    "http://[::169.254.169.254]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::FFFF:A9FE:A9FE]/",
    "http://[0000:0000:0000:0000:0000:ffff:a9fe:a9fe]/",
    "http://[::ffff:0:169.254.169.254]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[64:ff9b:1::169.254.169.254]/",
    "http://[64:ff9b:1:fffe::10.0.0.1]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:a9fe:a9fe::1]/",
    "http://[2600:1f00::5efe:10.0.0.1]/",
    "http://[2600:1f00::200:5efe:169.254.169.254]/",
    "http://[2600:1f00::169.254.169.254]/",
    // The same behind a shorter prefix of a NAT64.
    "http://[2600:1f00:a9fe:a9fe::]/",
    "http://[2600:1f00:12a9:fea9:fe::]/",
    "http://[2600:1f00:1234:a9fe:a9:fe00::]/",
    "http://[2600:1f00:1234:56a9:fe:a9fe::]/",
    "http://[2600:1f00:1234:5678:a9:fea9:fe00:0]/",
    "http://[2600:1f00::a9:fea9:fe00:0]/",
    "http://[2600:1f00::ffa9:fea9:fe12:3456]/",
    // IPv6 by itself.
    "http://[::]/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25lo]/",
    "http://[fe80::1%lo]/",
    "http://[fe80::a9fe:a9fe]/",
    "http://[fec0::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fd00:ec2::23]/",
    "http://[fd00:ec2::253]/",
    "http://[fd00:42::42]/",
    "http://[fd00:c1::a9fe:a9fe]/",
    "http://[fd00:a9fe:a9fe::1]/",
    "http://[fd20:ce::254]/",
    "http://[ff02::1]/",
    "http://[4000::1]/",
    "http://[::1/",
    "http://[]/",
    "http://[127.0.0.1]/",
    // Ports.
    "http://hooks.example.com:0/",
    "http://hooks.example.com:00022/",
    "http://hooks.example.com:65536/",
    "http://hooks.example.com:80:80/",
    "http://hooks.example.com:-80/",
    "http://hooks.example.com:8o80/",
    "https://hooks.example.com:6379/",
    "https://hooks.example.com:25/",
    // Everything else.
    "https://hooks.example.com/#",
    "https://hooks.example.com/in#fragment",
    "https://user@hooks.example.com/",
    "https://:@:hooks.example.com/",
    "https://hooks..example.com/",
    "https://.hooks.example.com/",
    "https://-hooks.example.com/",
    "https://xn--/",
    "https://xn--a.example.com\u{301}xn--/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "ws://hooks.example.com/",
    "blob:https://hooks.example.com/1",
    "view-source:https://hooks.example.com/",
    "",
    " ",
    "https:",
    "https://",
    "https:///",
    "https://?",
    "https://#",
    "https://.",
    "https://..",
    "https://%",
    "https://%zz/",
    "https://[",
    "//hooks.example.com/",
    "hooks.example.com",
];

#[tokio::test]
async fn no_spelling_gets_past_the_guard() {
    let policy = NetworkPolicy::builder().allow_http(true).build();
    let guarded = Guarded::builder().policy(policy.clone());
    let guarded = guarded.resolver(Panics).guarded().unwrap();
    for text in REFUSED {
        let Ok(url) = text.parse::<EndpointUrl>() else {
            continue;
        };
        assert!(policy.check_url(&url).is_err(), "{text}: {url}");
        let kind = failure(&guarded, url.as_str()).await;
        assert_eq!(kind, TransportErrorKind::Blocked, "{text}");
    }
}

#[test]
fn names_longer_than_dns_carries_are_refused() {
    let label = |len| "a".repeat(len);
    let is_url = |host: &str| format!("https://{host}/").parse::<EndpointUrl>().is_ok();
    assert!(is_url(&format!("{}.example.com", label(63))));
    assert!(!is_url(&format!("{}.example.com", label(64))));
    let name = |last| [label(63), label(63), label(63), label(last)].join(".");
    assert!(is_url(&name(61)));
    assert!(is_url(&format!("{}.", name(61))));
    assert!(!is_url(&name(62)));
}

/// Whoever opens the network around a metadata service does not open that.
#[test]
fn metadata_services_stay_blocked_in_a_network_that_is_allowed() {
    let services = [
        ("169.254.169.254", "169.254.0.0/16"),
        ("169.254.170.2", "169.254.0.0/16"),
        ("169.254.42.42", "169.254.0.0/16"),
        ("100.100.100.200", "100.64.0.0/10"),
        ("192.0.0.192", "192.0.0.0/24"),
        ("168.63.129.16", "168.63.129.0/24"),
        ("64:ff9b::100.100.100.200", "100.64.0.0/10"),
        ("::ffff:100.100.100.200", "::ffff:0:0/96"),
        ("fd00:ec2::254", "fd00:ec2::/32"),
        ("fd00:ec2::23", "fd00:ec2::23/128"),
        ("fd20:ce::254", "fd20:ce::/32"),
        ("fd00:42::42", "fd00:42::/32"),
        ("fd00:c1::a9fe:a9fe", "fc00::/7"),
        ("fd00:a9fe:a9fe::1", "fc00::/7"),
        ("fd00:100::100:200", "fc00::/7"),
        ("fd12:3456::a9fe:a9fe", "fd12:3456::/32"),
        ("fd12:3456::a9:fea9:fe00:0", "fd12:3456::/32"),
        ("fe80::a9fe:a9fe", "fe80::/10"),
    ];
    for (service, around) in services {
        let policy = NetworkPolicy::builder()
            .allow_private(true)
            .allow_networks([network(around), network(service)])
            .allow_names(["metadata.google.internal"])
            .build();
        let ip: IpAddr = service.parse().unwrap();
        let verdict = policy.check_answers(&[ip]);
        assert!(matches!(verdict, Err(Blocked::Address { .. })), "{service}");
    }
}

#[test]
fn what_only_resembles_a_metadata_service_is_open() {
    let policy = NetworkPolicy::default();
    for ip in [
        "2600:1f00:a9fe:a9fd::",
        "2600:1f00:a9:fea9:fe00::",
        "2600:1f00::a9fe:a9fe:0",
        "2600:1f00::a9:fea9:fd00:0",
        "2600:1f00::1",
    ] {
        let ip: IpAddr = ip.parse().unwrap();
        assert!(policy.check_answers(&[ip]).is_ok(), "{ip}");
    }
}
