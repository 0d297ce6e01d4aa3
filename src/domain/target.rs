//! Decides which addresses a delivery may reach: those of the public internet, and those that the operator allows in
//! addition.
//!
//! Responsible for addresses, and for the form of an endpoint's URL. Must not resolve names: the sender checks every
//! address to which a name resolves, before it connects.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// Characters.
const URL_MAX: usize = 2048;

/// The networks of IPv4 that are not public (IANA special-purpose registry, RFC 6890), and a cloud's platform address.
const REFUSED_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),        // this network
    v4([10, 0, 0, 0], 8),       // private
    v4([100, 64, 0, 0], 10),    // shared by carriers
    v4([127, 0, 0, 0], 8),      // loopback
    v4([168, 63, 129, 16], 32), // Azure: answers only its own machines
    v4([169, 254, 0, 0], 16),   // link-local, cloud metadata
    v4([172, 16, 0, 0], 12),    // private
    v4([192, 0, 0, 0], 24),     // protocol assignments
    v4([192, 0, 2, 0], 24),     // documentation
    v4([192, 88, 99, 0], 24),   // 6to4 relays
    v4([192, 168, 0, 0], 16),   // private
    v4([198, 18, 0, 0], 15),    // benchmarking
    v4([198, 51, 100, 0], 24),  // documentation
    v4([203, 0, 113, 0], 24),   // documentation
    v4([224, 0, 0, 0], 4),      // multicast
    v4([240, 0, 0, 0], 4),      // reserved, broadcast
];

/// The only part of IPv6 with public unicast addresses. Loopback, unique local, link-local, site-local, multicast,
/// discard-only 100::/64, local NAT64 64:ff9b:1::/48 and the IPv4-compatible ::/96 all lie outside.
const PUBLIC_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// The networks within [`PUBLIC_V6`] that are not public.
const REFUSED_V6: [Ipv6Net; 3] = [
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // protocol assignments: Teredo, benchmarking, ORCHID
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation
];

/// Addresses that carry an IPv4 address in their bytes 2 to 5 (6to4, RFC 3056).
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
/// Addresses that a NAT64 gateway translates to the IPv4 address in their last four bytes (RFC 6052).
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
/// IPv4 addresses in the form of IPv6 (RFC 4291, section 2.5.5.2).
const MAPPED: Ipv6Net = v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);

/// The error of an attempt whose host does not exist or must not be called. Both cases have the same text, because a
/// difference would reveal to customers which names and addresses exist in the operator's network.
pub const NOT_CALLED: &str = "the host does not exist or is not public";

/// What an operator can do about a refused address, as the end of the sentence.
pub(crate) const CAN_BE_ALLOWED: &str = "; POSTRIDER_ALLOW_TARGETS can allow it";

/// The addresses that may be called. The default allows the public internet alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TargetPolicy {
    /// Networks that may be called although they are not public.
    allow: Networks,
    /// Networks that must not be called, even if they are public or allowed.
    refuse: Networks,
}

/// A list of networks, as an operator writes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Networks(Vec<IpNet>);

impl FromStr for Networks {
    type Err = String;

    /// Reads networks (`10.1.0.0/16`) or single addresses, separated by commas. An empty text means none. The error
    /// names the entry and the rule.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let networks = text.split(',').map(|entry| parse_network(entry.trim()));
        networks.collect::<Result<_, _>>().map(Self)
    }
}

impl Networks {
    fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&ip))
    }
}

impl FromStr for TargetPolicy {
    type Err = String;

    /// Reads the networks that may be called although they are not public, as [`Networks`] does.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self {
            allow: text.parse()?,
            refuse: Networks::default(),
        })
    }
}

impl fmt::Display for TargetPolicy {
    /// Writes the policy for an operator: `public addresses, 10.1.0.0/16, not 10.1.2.0/24`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("public addresses")?;
        self.allow.0.iter().try_for_each(|net| write!(f, ", {net}"))?;
        self.refuse.0.iter().try_for_each(|net| write!(f, ", not {net}"))
    }
}

impl TargetPolicy {
    /// Returns the policy with `refuse` as the networks that must not be called, even if they are public or allowed.
    pub fn refusing(self, refuse: Networks) -> Self {
        Self { refuse, ..self }
    }

    /// Returns whether this address may be called. An IPv6 address that carries an IPv4 address (mapped, 6to4, NAT64,
    /// ISATAP) is judged by that address too.
    pub fn allows(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let is_public = match ip {
            IpAddr::V4(ip) => !REFUSED_V4.iter().any(|net| net.contains(&ip)),
            IpAddr::V6(ip) => is_public_v6(ip) && embedded_v4(ip).all(|inner| self.allows(inner.into())),
        };
        !self.is_refused(ip) && (self.allow.contains(ip) || is_public)
    }

    /// Returns whether the operator refuses this address, or an IPv4 address that it carries, whatever else is allowed.
    fn is_refused(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let is_inner_refused = match ip {
            IpAddr::V4(_) => false,
            IpAddr::V6(ip) => embedded_v4(ip).any(|inner| self.refuse.contains(inner.into())),
        };
        is_inner_refused || self.refuse.contains(ip)
    }

    /// Rejects an address that must not be called. The error is the sentence for the caller; it names the setting that
    /// allows private addresses, unless the operator refuses this one explicitly.
    pub(crate) fn check_address(&self, ip: IpAddr) -> Result<(), String> {
        if self.allows(ip) {
            return Ok(());
        }
        if self.is_refused(ip) {
            return Err(format!("address {ip} must not be called"));
        }
        Err(format!(
            "address {ip} is not public and must not be called{CAN_BE_ALLOWED}"
        ))
    }

    /// Checks an endpoint's URL. If the host is an address, it is checked here, however it is spelled. A name is
    /// checked when it is resolved. Returns the normalized URL, which is the form to call; callers may keep the given
    /// text to show it. The error is the broken rule.
    pub fn check_url(&self, url: &str) -> Result<Url, String> {
        let parsed = parse_url(url)?;
        if let Some(ip) = literal_address(&parsed) {
            self.check_address(ip)?;
        }
        Ok(parsed)
    }
}

/// Reads an endpoint's URL: absolute, http or https, with a host, without user name and password, at most 2048
/// characters. The error is the broken rule.
pub fn parse_url(url: &str) -> Result<Url, String> {
    if url.chars().count() > URL_MAX {
        return Err(format!("must be at most {URL_MAX} characters"));
    }
    if url
        .chars()
        .any(|character| character.is_control() || character.is_whitespace())
    {
        return Err("must not contain spaces or control characters".to_owned());
    }
    let parsed = Url::parse(url).map_err(|error| format!("must be an absolute http or https URL: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err("must be an absolute http or https URL".to_owned());
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("must not contain a user name or password; use a custom header instead".to_owned());
    }
    match parsed.host() {
        Some(_) => Ok(parsed),
        None => Err("must name a host".to_owned()),
    }
}

/// Returns the address that a URL has as its host. `None` means the host is a name.
pub fn literal_address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
        Host::Domain(_) => None,
    }
}

/// Reads a network or an address. A network of mapped addresses becomes the IPv4 network that it means, because
/// addresses are compared in their canonical form.
fn parse_network(entry: &str) -> Result<IpNet, String> {
    let net = entry
        .parse()
        .or_else(|_| entry.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("'{entry}': each must be a network such as 10.1.0.0/16, or an address"))?;
    match net {
        IpNet::V6(mapped) if MAPPED.contains(&mapped) => {
            let [.., a, b, c, d] = mapped.addr().octets();
            Ok(v4([a, b, c, d], mapped.prefix_len() - MAPPED.prefix_len()).into())
        }
        other => Ok(other),
    }
}

/// Returns the IPv4 addresses to which a gateway could forward packets for this address.
fn embedded_v4(ip: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bytes = ip.octets();
    let at = |place: usize| Ipv4Addr::new(bytes[place], bytes[place + 1], bytes[place + 2], bytes[place + 3]);
    let six_to_four = SIX_TO_FOUR.contains(&ip).then(|| at(2));
    let at_its_end = (NAT64.contains(&ip) || is_isatap(ip)).then(|| at(12));
    six_to_four.into_iter().chain(at_its_end)
}

/// Returns whether the interface identifier is `5efe` and an IPv4 address (ISATAP, RFC 5214). The prefix does not
/// matter, nor do the bits for "globally unique" and "group".
fn is_isatap(ip: Ipv6Addr) -> bool {
    let [.., flags, kind, _, _] = ip.segments();
    flags & !0x0300 == 0 && kind == 0x5efe
}

/// Returns whether an address is public by its own form. A NAT64 address counts as public; the caller judges the IPv4
/// address that it carries.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    NAT64.contains(&ip) || PUBLIC_V6.contains(&ip) && !REFUSED_V6.iter().any(|net| net.contains(&ip))
}

const fn v4([a, b, c, d]: [u8; 4], prefix_len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_len)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], prefix_len: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &str) -> TargetPolicy {
        allow.parse().unwrap()
    }

    fn each(addresses: &str) -> impl Iterator<Item = &str> {
        addresses.split_whitespace()
    }

    fn allowed(allow: &str, ip: &str) -> bool {
        policy(allow).allows(ip.parse().unwrap())
    }

    #[test]
    fn public_addresses_are_allowed() {
        for ip in each(
            "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
         169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 \
         198.17.255.255 198.20.0.0 203.0.112.255 203.0.114.0 223.255.255.255 2606:4700::1111 \
         2a00:1450:4001::1 2001:200::1 2001:db7:ffff::1 2001:db9::1 2000:: 3ffe::1",
        ) {
            assert!(allowed("", ip), "{ip}");
        }
    }

    #[test]
    fn every_ipv4_address_that_is_not_public_is_refused() {
        for ip in each(
            "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255 127.0.0.1 \
         127.255.255.255 168.63.129.16 169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 \
         192.0.0.0 192.0.0.192 192.0.0.255 192.0.2.1 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0 \
         198.19.255.255 198.51.100.1 203.0.113.255 224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.254 \
         255.255.255.255",
        ) {
            assert!(!allowed("", ip), "{ip}");
        }
    }

    #[test]
    fn every_ipv6_address_that_is_not_public_is_refused() {
        for ip in each(
            ":: ::1 ::2 100::1 100:0:0:1::1 64:ff9b:1::1 64:ff9b:1::808:808 2001::1 \
         2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:1ff::1 2001:db8::1 \
         2001:db8:ffff::1 3fff::1 3fff:fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fdff::1 fe80::1 febf::1 \
         fec0::1 feff::1 ff00::1 ff02::1 ffff::1",
        ) {
            assert!(!allowed("", ip), "{ip}");
        }
    }

    #[test]
    fn an_ipv4_address_inside_an_ipv6_one_is_judged_as_ipv4() {
        for refused in each(
            "::ffff:127.0.0.1 ::ffff:10.1.2.3 ::ffff:169.254.169.254 ::ffff:0.0.0.0 2002:7f00:1:: 2002:a00:1:1::1 \
         2002:c0a8:101::1 2002:a9fe:a9fe:: 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.1",
        ) {
            assert!(!allowed("", refused), "{refused}");
        }
        for public in each("::ffff:8.8.8.8 2002:808:808::1 64:ff9b::8.8.8.8") {
            assert!(allowed("", public), "{public}");
        }
    }

    #[test]
    fn an_isatap_address_is_judged_by_its_prefix_and_the_address_within() {
        for refused in each(
            "2a00:1450:4001::5efe:10.0.0.1 2a00:1450:4001::200:5efe:127.0.0.1 2a00:1450:4001:1:100:5efe:a00:1 \
         2a00:1450:4001:1:300:5efe:169.254.169.254 fe80::5efe:8.8.8.8 fd00::200:5efe:8.8.8.8 \
         2002:808:808::5efe:10.0.0.1 2002:a00:1::5efe:8.8.8.8",
        ) {
            assert!(!allowed("", refused), "{refused}");
        }
        for public in each(
            "2a00:1450:4001::5efe:8.8.8.8 2a00:1450:4001::200:5efe:8.8.8.8 2002:808:808::5efe:8.8.4.4 \
         2a00:1450:4001::400:5efe:10.0.0.1 2a00:1450:4001::5eff:10.0.0.1",
        ) {
            assert!(allowed("", public), "{public}");
        }
        assert!(allowed("10.0.0.0/8", "2a00:1450:4001::5efe:10.0.0.1"));
    }

    #[test]
    fn networks_to_refuse_are_refused_whatever_allows_them() {
        let policy = policy("10.0.0.0/8, fd00::/8")
            .refusing("8.8.8.0/24, 10.9.0.0/16,2606:4700::/32 , fd12::1".parse().unwrap());
        for refused in each(
            "8.8.8.8 10.9.1.1 2606:4700::1111 fd12::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1 \
         2a00:1450:4001::5efe:8.8.8.8",
        ) {
            assert!(!policy.allows(refused.parse().unwrap()), "{refused}");
        }
        for allowed in each("8.8.4.4 10.8.1.1 2606:4701::1111 fd12::2") {
            assert!(policy.allows(allowed.parse().unwrap()), "{allowed}");
        }
        assert!(policy.check_url("http://8.8.8.8/").is_err());
    }

    #[test]
    fn no_setting_is_named_for_an_address_that_carries_a_refused_one() {
        let policy = policy("10.0.0.0/8").refusing("10.9.0.0/16".parse().unwrap());
        for host in
            each("10.9.1.1 [::ffff:10.9.1.1] [2002:a09:101::] [64:ff9b::10.9.1.1] [2a00:1450:4001::5efe:10.9.1.1]")
        {
            let message = policy.check_url(&format!("http://{host}/")).unwrap_err();
            assert!(!message.contains("POSTRIDER_ALLOW_TARGETS"), "{host}: {message}");
        }
    }

    #[test]
    fn ipv4_compatible_addresses_are_refused_even_with_a_public_one_inside() {
        for ip in each("::127.0.0.1 ::10.0.0.1 ::8.8.8.8 ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8") {
            assert!(!allowed("", ip), "{ip}");
        }
    }

    #[test]
    fn allowed_networks_are_exactly_the_exceptions() {
        let policy = "127.0.0.0/8, 10.1.0.0/16,192.168.1.7 , fd00::/8, ::1";
        for ip in each("127.0.0.1 127.9.9.9 10.1.255.255 192.168.1.7 fd12::1 ::1 8.8.8.8 2606:4700::1") {
            assert!(allowed(policy, ip), "{ip}");
        }
        for ip in each("10.2.0.0 10.0.255.255 192.168.1.6 192.168.1.8 fc00::1 ::2 169.254.169.254") {
            assert!(!allowed(policy, ip), "{ip}");
        }
    }

    #[test]
    fn an_exception_for_ipv4_holds_for_the_same_address_inside_ipv6() {
        for ip in each("::ffff:127.0.0.1 64:ff9b::127.0.0.1 2002:7f00:1::") {
            assert!(allowed("127.0.0.0/8", ip), "{ip}");
            assert!(!allowed("10.0.0.0/8", ip), "{ip}");
        }
    }

    #[test]
    fn an_exception_written_as_mapped_ipv6_means_its_ipv4() {
        assert!(allowed("::ffff:127.0.0.1", "127.0.0.1"));
        assert!(allowed("::ffff:10.0.0.0/104", "10.200.0.1"));
        assert!(!allowed("::ffff:10.0.0.0/104", "127.0.0.1"));
    }

    #[test]
    fn all_of_ipv6_as_exception_does_not_open_ipv4() {
        for ip in ["127.0.0.1", "::ffff:127.0.0.1"] {
            assert!(!allowed("::/0", ip), "{ip}");
        }
        assert!(allowed("::/0", "::1") && allowed("0.0.0.0/0", "127.0.0.1") && !allowed("0.0.0.0/0", "::1"));
    }

    #[test]
    fn a_wrong_exception_is_named() {
        for (text, named) in [
            ("10.0.0.0/33", "'10.0.0.0/33'"),
            ("127.0.0.1,", "''"),
            ("localhost", "'localhost'"),
            ("10.0", "'10.0'"),
        ] {
            assert!(text.parse::<TargetPolicy>().unwrap_err().starts_with(named), "{text}");
        }
        assert_eq!(policy(" "), TargetPolicy::default());
    }

    #[test]
    fn a_network_written_with_host_bits_is_the_whole_network() {
        assert!(allowed("10.1.2.3/8", "10.200.0.1"));
    }

    #[test]
    fn http_and_https_urls_with_a_host_are_accepted() {
        for url in [
            "https://example.com",
            "http://example.com:8080/path?q=1#f",
            "HTTPS://EXAMPLE.com/",
            "https://1.1.1.1/hook",
            "https://[2606:4700::1111]/hook",
            "https://münchen.example/",
            "http://receiver/hook",
            "http://localhost/",
        ] {
            assert!(policy("").check_url(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn anything_but_an_absolute_http_url_is_refused() {
        for url in [
            "",
            "example.com",
            "/hook",
            "//example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://",
            "http:///",
            "https://exa%00mple/",
            "javascript:alert(1)",
            "http://256.1.1.1/",
            "http://[::1/",
        ] {
            assert!(
                policy("0.0.0.0/0")
                    .check_url(url)
                    .unwrap_err()
                    .contains("absolute http or https URL"),
                "{url}"
            );
        }
    }

    #[test]
    fn user_names_and_passwords_are_refused() {
        for url in [
            "https://user@example.com/",
            "https://user:pass@example.com/",
            "https://:pass@example.com/",
        ] {
            assert!(
                policy("").check_url(url).unwrap_err().contains("user name or password"),
                "{url}"
            );
        }
    }

    #[test]
    fn spaces_and_control_characters_are_refused() {
        for url in [
            " https://example.com/",
            "https://example.com/a b",
            "https://exam\tple.com/",
            "https://example.com/\r\n",
            "https://example.com/\0",
        ] {
            assert!(
                policy("").check_url(url).unwrap_err().contains("spaces or control"),
                "{url:?}"
            );
        }
    }

    #[test]
    fn a_url_has_at_most_2048_characters() {
        let base = "https://example.com/";
        let of_len = |len: usize| format!("{base}{}", "a".repeat(len - base.len()));
        assert!(policy("").check_url(&of_len(2048)).is_ok());
        assert!(policy("").check_url(&of_len(2049)).unwrap_err().contains("2048"));
    }

    #[test]
    fn every_spelling_of_a_refused_address_is_refused_with_the_setting_that_allows_it() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://127.0.0.1./",
            "http://①②⑦.⓪.⓪.①/",
            "http://127。0。0。1/",
            "http://%31%32%37.0.0.1/",
            "http://0/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[0:0:0:0:0:ffff:127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http:\\\\127.0.0.1\\",
            "http://169.254.169.254/latest/meta-data",
            "http://[fe80::1]/",
            "https://192.168.1.1:8443/",
        ] {
            let message = policy("").check_url(url).expect_err(url);
            assert!(message.contains("POSTRIDER_ALLOW_TARGETS"), "{url}: {message}");
        }
    }

    #[test]
    fn an_exception_opens_urls_too() {
        let policy = policy("127.0.0.0/8");
        for url in [
            "http://127.0.0.1:9000/",
            "http://2130706433/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(policy.check_url(url).is_ok(), "{url}");
        }
        assert!(policy.check_url("http://10.0.0.1/").is_err());
    }
}
