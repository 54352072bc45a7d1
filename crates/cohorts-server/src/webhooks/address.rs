//! Which URLs and addresses may be called, so that no webhook reaches the network of the service.
//!
//! A URL is checked when it is stored, and its addresses at each attempt, because a name may resolve to other addresses
//! later. The operator may allow networks, which may be called without TLS too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::Uri;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// Networks of IPv4 that are not public.
const REFUSED_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// The public part of IPv6, but for [`REFUSED_V6`].
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// Networks within [`GLOBAL_V6`] that are not public: those of protocols, among them Teredo, of documentation, and 6to4.
const REFUSED_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];
/// The addresses of NAT64, which end in an address of IPv4.
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// A URL that may be called, if its addresses may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookTarget {
    url: Url,
}

impl WebhookTarget {
    /// The host as a name or an address.
    pub fn host(&self) -> Host<&str> {
        // Parsing has refused URLs without a host.
        self.url.host().unwrap_or(Host::Domain(""))
    }

    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(443)
    }

    pub fn uses_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The URL in its normal form.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// The value of the header `Host`.
    pub fn authority(&self) -> String {
        self.url.authority().to_owned()
    }

    /// The path and the query; `None` if they are no URI.
    pub fn path(&self) -> Option<Uri> {
        let query = self.url.query().map(|query| format!("?{query}"));
        let path = self.url.path().to_owned() + &query.unwrap_or_default();
        path.parse().ok()
    }
}

/// The addresses that may be called.
#[derive(Clone, Debug, Default)]
pub struct AddressRules {
    allow: Vec<IpNet>,
}

impl AddressRules {
    pub fn new(allow: Vec<IpNet>) -> Self {
        Self { allow }
    }

    /// Checks a URL without resolving its host.
    ///
    /// # Errors
    ///
    /// Returns the reason for the caller.
    pub fn parse(&self, text: &str) -> Result<WebhookTarget, String> {
        let url = Url::parse(text.trim())
            .map_err(|_| "Enter a URL such as https://hooks.example.org/cohorts.".to_owned())?;
        if !matches!(url.scheme(), "https" | "http")
            || (url.scheme() == "http" && self.allow.is_empty())
        {
            return Err("The URL must begin with https://.".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("The URL must not contain a user name or a password.".to_owned());
        }
        if url.fragment().is_some() {
            return Err("The URL must not contain a fragment (`#`).".to_owned());
        }
        let target = WebhookTarget { url };
        let address = match target.host() {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain("") => return Err("The URL has no host.".to_owned()),
            Host::Domain(name) => is_local(name).then_some(Ipv4Addr::LOCALHOST.into()),
        };
        if target.path().is_none() {
            return Err("The path of the URL is invalid.".to_owned());
        }
        address.map_or(Ok(()), |address| self.check(&target, address))?;
        Ok(target)
    }

    /// Whether a target may be called at this address.
    ///
    /// # Errors
    ///
    /// Returns the reason for the caller. It does not contain the address, which may be that of a private name.
    pub fn check(&self, target: &WebhookTarget, address: IpAddr) -> Result<(), String> {
        let address = address.to_canonical();
        if self.allow.iter().any(|net| net.contains(&address)) {
            return Ok(());
        }
        if !is_public(address) {
            return Err(
                "The host has an address that is not public. The operator of the service can allow it with \
                 `--webhook-allow`."
                    .to_owned(),
            );
        }
        if !target.uses_tls() {
            return Err(
                "The URL must begin with https://, because the operator has not allowed its address.".to_owned(),
            );
        }
        Ok(())
    }
}

fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether an address belongs to a host of the public internet.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let refuses =
                |(net, bits): (Ipv4Addr, u8)| Ipv4Net::new_assert(net, bits).contains(&address);
            !REFUSED_V4.into_iter().any(refuses)
        }
        IpAddr::V6(address) => {
            let segments = address.segments();
            if segments[..6] == NAT64 {
                let [.., a, b, c, d] = address.octets();
                return is_public(Ipv4Addr::new(a, b, c, d).into());
            }
            let contains =
                |(net, bits): (Ipv6Addr, u8)| Ipv6Net::new_assert(net, bits).contains(&address);
            contains(GLOBAL_V6) && !REFUSED_V6.into_iter().any(contains)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(refused.parse().unwrap()), "{refused}");
        }
    }

    #[test]
    fn urls_that_may_not_be_called_are_refused() {
        let rules = AddressRules::default();
        for refused in [
            "",
            "hooks",
            "http://hooks.example.org/",
            "ftp://hooks.example.org/",
            "file:///etc/passwd",
            "https://",
            "https://ana@hooks.example.org/",
            "https://ana:secret@hooks.example.org/",
            "https://hooks.example.org/#a",
            "https://localhost/",
            "https://a.localhost./",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://169.254.169.254/latest/meta-data/",
        ] {
            assert!(rules.parse(refused).is_err(), "{refused}");
        }
        for accepted in [
            "https://hooks.example.org",
            " https://hooks.example.org:8443/a?b=c ",
            "https://8.8.8.8/",
            "https://bücher.example/",
        ] {
            assert!(rules.parse(accepted).is_ok(), "{accepted}");
        }
        let target = rules.parse("https://Hooks.Example.org:8443/a?b=c").unwrap();
        assert_eq!(target.authority(), "hooks.example.org:8443");
        assert_eq!(target.path().unwrap().to_string(), "/a?b=c");
    }

    #[test]
    fn an_allowed_network_may_be_called_without_tls_and_no_other() {
        let rules = AddressRules::new(vec!["127.0.0.0/8".parse().unwrap()]);
        assert!(rules.parse("http://127.0.0.1:80/").is_ok());
        assert!(rules.parse("http://[::ffff:127.0.0.1]/").is_ok());
        assert!(rules.parse("https://localhost/").is_ok());
        assert!(rules.parse("http://10.0.0.1/").is_err());
        assert!(rules.parse("http://8.8.8.8/").is_err());
        let named = rules.parse("http://hooks.example.org/").unwrap();
        assert!(rules.check(&named, "127.0.0.1".parse().unwrap()).is_ok());
        // The name resolves to another address later.
        for other in ["8.8.8.8", "10.0.0.1", "::1", "::ffff:10.0.0.1"] {
            let error = rules.check(&named, other.parse().unwrap()).unwrap_err();
            assert!(!error.contains(other), "{error}");
        }
        let secure = rules.parse("https://hooks.example.org/").unwrap();
        assert!(rules.check(&secure, "8.8.8.8".parse().unwrap()).is_ok());
    }
}
