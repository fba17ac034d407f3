//! The address ranges that are not the public Internet, from IANA's special-purpose registries and the
//! clouds' documentation.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// A forbidden range and what may lift the ban.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range<N> {
    net: N,
    pub(super) tier: Tier,
    pub(super) name: &'static str,
}

/// Who may lift the ban on a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// Nobody: metadata services, link-local, multicast, transition and reserved ranges.
    Never,
    /// The operator, by naming a network or with `allow_private`.
    Private,
    /// The operator, by naming a network: public ranges that never hold a receiver.
    Unusual,
}

/// The most specific range that holds `ip`.
pub(super) fn range_of_v4(ip: Ipv4Addr) -> Option<(Tier, &'static str)> {
    let found = V4.iter().find(|range| range.net.contains(&ip))?;
    Some((found.tier, found.name))
}

/// The most specific range that holds `ip`; whatever is not global unicast counts as reserved.
///
/// IPv4 addresses embedded by mapping or NAT64 must have been taken out before.
pub(super) fn range_of_v6(ip: Ipv6Addr) -> Option<(Tier, &'static str)> {
    match V6.iter().find(|range| range.net.contains(&ip)) {
        Some(found) => Some((found.tier, found.name)),
        None if GLOBAL_UNICAST.contains(&ip) => None,
        None => Some((Tier::Never, "outside global unicast 2000::/3")),
    }
}

/// Metadata services inside of ranges that an operator may open: Alibaba, Oracle, Azure, and what most
/// clouds use.
pub(super) const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(169, 254, 169, 254),
];

/// The same for IPv6.
#[rustfmt::skip]
const METADATA_V6: [Ipv6Net; 6] = [
    // AWS: instances, EKS pod identity, DNS and time are all in here.
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32),
    // Google Cloud.
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128),
    // Oracle.
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 128),
    // Scaleway.
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42), 128),
    // Linode.
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1), 128),
    // Alibaba.
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200), 128),
];

/// Whether a metadata service answers there. Any prefix before 169.254.169.254 counts: it may be that of
/// a network's own NAT64.
pub(super) fn is_metadata_v6(ip: Ipv6Addr) -> bool {
    METADATA_V6.iter().any(|net| net.contains(&ip)) || embeds(ip, [169, 254, 169, 254])
}

/// Whether a translator may take this IPv4 address out of that one: RFC 6052, 2.2 puts it behind a prefix of 32, 40, 48,
/// 56, 64 or 96 bits, around octet 8. Neither that octet nor what follows counts (2.3). An address of the Internet that
/// looks so by chance is one in 800 millions.
fn embeds(ip: Ipv6Addr, embedded: [u8; 4]) -> bool {
    let octets = ip.octets();
    let mut others = [0; 15];
    others[..8].copy_from_slice(&octets[..8]);
    others[8..].copy_from_slice(&octets[9..]);
    let starts = [4, 5, 6, 7, 8, 11];
    starts
        .iter()
        .any(|start| others[*start..].starts_with(&embedded))
}

/// NAT64's well-known prefix (RFC 6052): the last 32 bits are the IPv4 address that is reached.
pub(super) const NAT64: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

const GLOBAL_UNICAST: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

// Both tables: most specific first, so that the first hit decides.
#[rustfmt::skip]
const V4: &[Range<Ipv4Net>] = &[
    v4([168, 63, 129, 16], 32, Tier::Never, "Azure WireServer"),
    v4([192, 0, 0, 0], 24, Tier::Never, "IETF protocol assignments (RFC 6890)"),
    v4([192, 0, 2, 0], 24, Tier::Private, "documentation (RFC 5737)"),
    v4([192, 31, 196, 0], 24, Tier::Unusual, "AS112 (RFC 7535)"),
    v4([192, 52, 193, 0], 24, Tier::Unusual, "AMT (RFC 7450)"),
    v4([192, 88, 99, 0], 24, Tier::Never, "6to4 relay anycast (RFC 7526)"),
    v4([192, 175, 48, 0], 24, Tier::Unusual, "AS112 (RFC 7534)"),
    v4([198, 51, 100, 0], 24, Tier::Private, "documentation (RFC 5737)"),
    v4([203, 0, 113, 0], 24, Tier::Private, "documentation (RFC 5737)"),
    v4([169, 254, 0, 0], 16, Tier::Never, "link-local (RFC 3927)"),
    v4([192, 168, 0, 0], 16, Tier::Private, "private use (RFC 1918)"),
    v4([198, 18, 0, 0], 15, Tier::Private, "benchmarking (RFC 2544)"),
    v4([172, 16, 0, 0], 12, Tier::Private, "private use (RFC 1918)"),
    v4([100, 64, 0, 0], 10, Tier::Private, "shared address space (RFC 6598)"),
    v4([0, 0, 0, 0], 8, Tier::Never, "this host (RFC 1122)"),
    v4([10, 0, 0, 0], 8, Tier::Private, "private use (RFC 1918)"),
    v4([127, 0, 0, 0], 8, Tier::Private, "loopback (RFC 1122)"),
    v4([224, 0, 0, 0], 4, Tier::Never, "multicast (RFC 5771)"),
    v4([240, 0, 0, 0], 4, Tier::Never, "reserved (RFC 1112)"),
];

#[rustfmt::skip]
const V6: &[Range<Ipv6Net>] = &[
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, Tier::Never, "unspecified (RFC 4291)"),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, Tier::Private, "loopback (RFC 4291)"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96, Tier::Never, "IPv4-compatible (RFC 4291)"),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, Tier::Never, "IPv4-translated (RFC 2765)"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, Tier::Never, "discard-only (RFC 6666)"),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, Tier::Never, "dummy prefix (RFC 9780)"),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, Tier::Never, "local-use NAT64 (RFC 8215)"),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, Tier::Unusual, "AS112 (RFC 7534)"),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Tier::Private, "documentation (RFC 3849)"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Tier::Never, "IETF protocol assignments (RFC 2928)"),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Tier::Private, "documentation (RFC 9637)"),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, Tier::Never, "6to4 (RFC 3056)"),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, Tier::Never, "SRv6 SIDs (RFC 9602)"),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, Tier::Never, "link-local (RFC 4291)"),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Tier::Never, "site-local (RFC 3879)"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 8, Tier::Never, "reserved (RFC 4291)"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Tier::Never, "multicast (RFC 4291)"),
    v6([0x200, 0, 0, 0, 0, 0, 0, 0], 7, Tier::Never, "OSI NSAP (RFC 4048)"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Tier::Private, "unique-local (RFC 4193)"),
];

const fn v4([a, b, c, d]: [u8; 4], len: u8, tier: Tier, name: &'static str) -> Range<Ipv4Net> {
    Range {
        net: Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len),
        tier,
        name,
    }
}

const fn v6(s: [u16; 8], len: u8, tier: Tier, name: &'static str) -> Range<Ipv6Net> {
    let first = Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]);
    Range {
        net: Ipv6Net::new_assert(first, len),
        tier,
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_range_comes_first() {
        assert!(V4.is_sorted_by_key(|range| u8::MAX - range.net.prefix_len()));
        assert!(V6.is_sorted_by_key(|range| u8::MAX - range.net.prefix_len()));
    }

    #[test]
    fn every_range_starts_at_its_first_address() {
        assert!(V4.iter().all(|range| range.net == range.net.trunc()));
        assert!(V6.iter().all(|range| range.net == range.net.trunc()));
    }
}
