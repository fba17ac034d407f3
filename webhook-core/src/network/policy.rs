//! Which URLs and addresses may be contacted. Pure: no look-up, no clock.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Host;

use super::blocklist::{self, Tier};
use super::cidr::Network;
use crate::url::EndpointUrl;

/// Which schemes, ports, names and addresses may be contacted.
///
/// By default: `https` on port 443 or from 1024 up (without the ports of databases and the like),
/// public names, and addresses of the public Internet. The engine checks a URL when an endpoint is registered *and* before
/// each attempt. The transport checks the addresses behind the name at each connection, because they may change.
///
/// - IPv4 addresses inside IPv6 ones (`::ffff:0:0/96`, NAT64's `64:ff9b::/96`, and ISATAP's) are checked as the IPv4 address
///   to which they lead. If your network's NAT64 has a prefix of its own, [deny](NetworkPolicyBuilder::deny_networks) it:
///   behind any other prefix, of any length that RFC 6052 allows, only 169.254.169.254 is seen.
/// - Networks and names that are [denied](NetworkPolicyBuilder::deny_networks) stay denied, whatever is allowed.
/// - Metadata services, link-local, multicast and reserved ranges cannot be allowed at all.
///
/// ```
/// use webhook_core::{EndpointUrl, NetworkPolicy};
///
/// let policy = NetworkPolicy::builder()
///     .allow_networks(["10.1.0.0/16".parse()?])
///     .build();
/// assert!(policy.check_url(&"https://10.1.2.3/".parse()?).is_ok());
/// assert!(policy.check_url(&"https://10.2.2.3/".parse()?).is_err());
/// assert!(policy.check_url(&"http://example.com/".parse()?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct NetworkPolicy {
    allow_http: bool,
    allow_private: bool,
    allowed: Vec<Network>,
    denied: Vec<Network>,
    allowed_names: Vec<String>,
    denied_names: Vec<String>,
    allowed_ports: Vec<u16>,
}

/// Why the policy forbids a URL or an address.
///
/// `Display` is for the operator: it names the address and its range. Show a tenant only
/// [`tenant_message`](Self::tenant_message), which says nothing about the network behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Blocked {
    /// `http`, and the policy wants `https`.
    #[error("plain http is not allowed")]
    Scheme,
    /// The port belongs to another protocol.
    #[error("port {0} is not allowed")]
    Port(u16),
    /// The name is special, internal, or denied.
    #[error("the host name is not a public one")]
    Name,
    /// The name has one label: search domains would complete it.
    #[error("the host name has a single label")]
    SingleLabel,
    /// The address is in a forbidden range.
    #[error("{address} is forbidden: {range}")]
    Address {
        /// The address as it was given or resolved.
        address: IpAddr,
        /// The range's name and source.
        range: &'static str,
    },
}

impl Blocked {
    /// What a tenant may be told: which rule their URL breaks, never what a name resolves to.
    #[must_use]
    pub fn tenant_message(&self) -> &'static str {
        match self {
            Self::Scheme => "the URL must use https",
            Self::Port(_) => "this port is not permitted",
            Self::Name | Self::SingleLabel | Self::Address { .. } => "this host is not permitted",
        }
    }
}

impl NetworkPolicy {
    /// Starts from the default: `https` to the public Internet.
    pub fn builder() -> NetworkPolicyBuilder {
        NetworkPolicyBuilder::default()
    }

    /// Checks what needs no look-up: scheme, port, and the name or literal address.
    ///
    /// # Errors
    /// The first rule that the URL breaks.
    pub fn check_url(&self, url: &EndpointUrl) -> Result<(), Blocked> {
        if !url.is_https() && !self.allow_http {
            return Err(Blocked::Scheme);
        }
        match url.ip() {
            Some(ip) => self.check_address(ip)?,
            None => self.check_name(url.host())?,
        }
        self.check_port(url.port())
    }

    /// Checks one address.
    ///
    /// # Errors
    /// [`Blocked::Address`].
    pub fn check_address(&self, address: IpAddr) -> Result<(), Blocked> {
        match self.forbidden_range(address) {
            None => Ok(()),
            Some(range) => Err(Blocked::Address { address, range }),
        }
    }

    /// Checks all the addresses to which a name resolves. One forbidden address forbids the name, so that a resolver cannot
    /// hide it among others.
    ///
    /// # Errors
    /// [`Blocked::Address`] for the first forbidden one.
    pub fn check_answers(&self, answers: &[IpAddr]) -> Result<(), Blocked> {
        answers.iter().try_for_each(|ip| self.check_address(*ip))
    }

    fn check_name(&self, name: &str) -> Result<(), Blocked> {
        if covers(&self.denied_names, name) {
            return Err(Blocked::Name);
        }
        if covers(&self.allowed_names, name) {
            return Ok(());
        }
        if BLOCKED_SUFFIXES.iter().any(|suffix| is_under(name, suffix)) {
            return Err(Blocked::Name);
        }
        if name.contains('.') {
            Ok(())
        } else {
            Err(Blocked::SingleLabel)
        }
    }

    fn check_port(&self, port: u16) -> Result<(), Blocked> {
        let usual = port == 443
            || (port == 80 && self.allow_http)
            || (port >= 1024 && !BLOCKED_PORTS.contains(&port));
        if usual || self.allowed_ports.contains(&port) {
            Ok(())
        } else {
            Err(Blocked::Port(port))
        }
    }

    fn forbidden_range(&self, address: IpAddr) -> Option<&'static str> {
        let reached = without_embedding(address);
        // The packets of an ISATAP address go to both.
        self.range_reached(address, reached)
            .or_else(|| self.forbidden_range(IpAddr::V4(isatap(reached)?)))
    }

    fn range_reached(&self, address: IpAddr, reached: IpAddr) -> Option<&'static str> {
        if contains(&self.denied, reached) || contains(&self.denied, address) {
            return Some("denied by the operator");
        }
        let (tier, range) = match reached {
            IpAddr::V4(ip) if blocklist::METADATA_V4.contains(&ip) => return Some(METADATA),
            IpAddr::V6(ip) if blocklist::is_metadata_v6(ip) => return Some(METADATA),
            IpAddr::V4(ip) => blocklist::range_of_v4(ip)?,
            IpAddr::V6(ip) => blocklist::range_of_v6(ip)?,
        };
        let lifted = match tier {
            Tier::Never => false,
            Tier::Private => self.allow_private || contains(&self.allowed, reached),
            Tier::Unusual => contains(&self.allowed, reached),
        };
        (!lifted).then_some(range)
    }
}

/// Settings of a [`NetworkPolicy`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct NetworkPolicyBuilder {
    policy: NetworkPolicy,
}

impl NetworkPolicyBuilder {
    /// Also allows plain `http`, and port 80. Payloads then travel in the clear. Default: off.
    pub fn allow_http(mut self, allow: bool) -> Self {
        self.policy.allow_http = allow;
        self
    }

    /// Allows every private, loopback, shared, benchmarking and documentation range. Prefer
    /// [`allow_networks`](Self::allow_networks). Default: off.
    pub fn allow_private(mut self, allow: bool) -> Self {
        self.policy.allow_private = allow;
        self
    }

    /// Allows these networks although they are not public. IPv4 networks also cover their NAT64 and
    /// mapped forms. Has no effect on metadata services and on ranges that can never be allowed.
    pub fn allow_networks(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.policy.allowed.extend(networks);
        self
    }

    /// Forbids these networks, whatever else is allowed: a host's own public load balancers, say.
    pub fn deny_networks(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.policy.denied.extend(networks);
        self
    }

    /// Allows these names and all below them although they look internal: `svc.cluster.local`,
    /// `localhost`. Their addresses must still be allowed.
    pub fn allow_names<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.policy
            .allowed_names
            .extend(names.into_iter().map(normalised));
        self
    }

    /// Forbids these names and all below them, whatever else is allowed.
    pub fn deny_names<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.policy
            .denied_names
            .extend(names.into_iter().map(normalised));
        self
    }

    /// Allows these ports beside the usual ones.
    pub fn allow_ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.policy.allowed_ports.extend(ports);
        self
    }

    /// The policy.
    #[must_use]
    pub fn build(self) -> NetworkPolicy {
        self.policy
    }
}

const METADATA: &str = "a cloud's metadata service";

/// Names that are not in the public DNS, by RFC 6761, 6762, 7686, 8375, 9476 and by habit.
const BLOCKED_SUFFIXES: [&str; 18] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "home.arpa",
    "arpa",
    "onion",
    "test",
    "invalid",
    "example",
    "alt",
    "cluster.local",
    "svc",
    "lan",
    "corp",
    "home",
    "intranet",
    "private",
];

/// The [Fetch standard's bad ports](https://fetch.spec.whatwg.org/#port-blocking) from 1024 up, and the
/// usual ports of Docker, etcd, `MySQL`, Postgres, Redis, Elasticsearch, Memcached and `MongoDB`.
const BLOCKED_PORTS: [u16; 27] = [
    1719, 1720, 1723, 2049, 2375, 2379, 3306, 3659, 4045, 4190, 5060, 5061, 5432, 6000, 6379, 6566,
    6665, 6666, 6667, 6668, 6669, 6679, 6697, 9200, 10080, 11211, 27017,
];

/// The IPv4 address that an IPv6 one leads to by mapping or NAT64; any other address as it is.
fn without_embedding(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(ip) if blocklist::NAT64.contains(&ip) => IpAddr::V4(last_32_bits(ip)),
        other => other.to_canonical(),
    }
}

/// The IPv4 address of the host that an ISATAP one is tunnelled to (RFC 5214, 6.1), whatever its prefix.
fn isatap(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V6(ip) if matches!(ip.segments()[4..6], [0 | 0x200, 0x5efe]) => {
            Some(last_32_bits(ip))
        }
        _ => None,
    }
}

fn last_32_bits(ip: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = ip.octets();
    Ipv4Addr::new(a, b, c, d)
}

fn contains(networks: &[Network], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(ip))
}

fn covers(suffixes: &[String], name: &str) -> bool {
    suffixes.iter().any(|suffix| is_under(name, suffix))
}

/// Whether `name` is `suffix` or ends in `.suffix`.
fn is_under(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The name as URLs have it: in ASCII, lower case, and without dots around it.
fn normalised(name: impl AsRef<str>) -> String {
    let name = name.as_ref().trim();
    let name = name.strip_prefix("*.").unwrap_or(name).trim_matches('.');
    match Host::parse(name) {
        Ok(Host::Domain(ascii)) => ascii,
        _ => name.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> EndpointUrl {
        text.parse().unwrap()
    }

    #[test]
    fn loopback_servers_on_any_high_port_can_be_allowed() {
        let policy = NetworkPolicy::builder()
            .allow_http(true)
            .allow_networks(["127.0.0.0/8", "::1"].map(|text| text.parse().unwrap()))
            .allow_names(["localhost"])
            .build();
        for allowed in [
            "http://127.0.0.1:38123/",
            "http://[::1]:60999/",
            "http://localhost:8080/",
        ] {
            assert_eq!(policy.check_url(&url(allowed)), Ok(()), "{allowed}");
        }
        assert_eq!(
            policy.check_url(&url("http://127.0.0.1:6379/")),
            Err(Blocked::Port(6379))
        );
    }

    #[test]
    fn ports_below_1024_and_of_other_protocols_are_blocked_unless_allowed() {
        let policy = NetworkPolicy::builder().allow_ports([9200]).build();
        for (port, allowed) in [
            (443, true),
            (8443, true),
            (9200, true),
            (80, false),
            (25, false),
            (5432, false),
        ] {
            let verdict = policy.check_url(&url(&format!("https://example.com:{port}/")));
            assert_eq!(verdict.is_ok(), allowed, "{port}");
        }
    }

    #[test]
    fn allowed_names_open_the_suffix_and_denied_ones_win() {
        let policy = NetworkPolicy::builder()
            .allow_names(["*.svc.cluster.local", "Billing.INTERNAL."])
            .deny_names(["secret.svc.cluster.local", "*.BÜCHER.example.com"])
            .build();
        let verdict = |host: &str| policy.check_url(&url(&format!("https://{host}/")));
        assert_eq!(verdict("api.svc.cluster.local"), Ok(()));
        assert_eq!(verdict("billing.internal"), Ok(()));
        assert_eq!(verdict("xbilling.internal"), Err(Blocked::Name));
        assert_eq!(verdict("a.secret.svc.cluster.local"), Err(Blocked::Name));
        for host in ["bücher.example.com", "a.xn--bcher-kva.example.com"] {
            assert_eq!(verdict(host), Err(Blocked::Name), "{host}");
        }
        assert_eq!(verdict("kubernetes"), Err(Blocked::SingleLabel));
    }

    #[test]
    fn metadata_services_stay_blocked_when_everything_is_allowed() {
        let policy = NetworkPolicy::builder()
            .allow_private(true)
            .allow_networks(["0.0.0.0/0", "::/0"].map(|text| text.parse().unwrap()))
            .build();
        let v6 = [
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:ec2::253",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fd00:a9fe:a9fe::1",
            "fd00:100::100:200",
            "fd12:3456::169.254.169.254",
            "2600:1f00::169.254.169.254",
            "2600:1f00::5efe:100.100.100.200",
        ];
        let v4 = blocklist::METADATA_V4.map(IpAddr::V4).into_iter();
        for ip in v4.chain(v6.map(|ip| ip.parse().unwrap())) {
            assert!(policy.check_address(ip).is_err(), "{ip}");
        }
        assert!(policy.check_address("fd00:42::43".parse().unwrap()).is_ok());
        assert!(policy.check_address([10, 0, 0, 1].into()).is_ok());
    }

    #[test]
    fn a_denied_network_wins_over_an_allowed_one_also_in_its_nat64_form() {
        let policy = NetworkPolicy::builder()
            .allow_networks(["10.0.0.0/8".parse().unwrap()])
            .deny_networks(["10.9.0.0/16".parse().unwrap()])
            .build();
        for (ip, allowed) in [
            ("10.8.0.1", true),
            ("64:ff9b::10.8.0.1", true),
            ("10.9.0.1", false),
            ("64:ff9b::10.9.0.1", false),
            ("::ffff:10.9.0.1", false),
        ] {
            assert_eq!(policy.check_address(ip.parse().unwrap()).is_ok(), allowed);
        }
    }

    #[test]
    fn a_tenant_reads_the_same_about_every_forbidden_host() {
        let policy = NetworkPolicy::default();
        let message = |text| policy.check_url(&url(text)).unwrap_err().tenant_message();
        assert_eq!(message("https://10.0.0.1/"), message("https://169.254.1.1"));
        assert_eq!(message("https://10.0.0.1/"), message("https://db.internal"));
        assert!(!message("https://10.0.0.1/").contains("10."));
    }
}
