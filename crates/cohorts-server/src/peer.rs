//! The address of a client, by which limits apply before its key or token is known.
//!
//! Behind a trusted proxy it is the address that this proxy has added last. Earlier addresses in the headers come from the
//! client itself, so they would let it choose a new address for each request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderName, HeaderValue};

/// The source of a client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerSource {
    /// The connection.
    #[default]
    Connection,
    /// The header `X-Forwarded-For`, otherwise `Forwarded`, which a trusted proxy sets.
    Proxy,
}

/// The address of the client of a request. Unix sockets, which have none, share `0.0.0.0`.
pub fn peer(request: &HttpRequest, source: PeerSource) -> IpAddr {
    let forwarded = match source {
        PeerSource::Connection => None,
        PeerSource::Proxy => forwarded_address(request),
    };
    let address = forwarded.or_else(|| Some(request.peer_addr()?.ip()));
    address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| {
        address.to_canonical()
    })
}

/// The addresses that count as one client: an IPv4 address, or a /64 network of IPv6, which is the smallest assignment.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(prefix).into()
        }
    }
}

fn forwarded_address(request: &HttpRequest) -> Option<IpAddr> {
    const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    let last = |name: HeaderName| last_element(request.headers().get_all(name).next_back());
    match last(X_FORWARDED_FOR) {
        Some(element) => parse_address(element),
        None => parse_address(for_parameter(last(header::FORWARDED)?)?),
    }
}

/// The last element of a list in a header. No address contains a comma.
fn last_element(value: Option<&HeaderValue>) -> Option<&str> {
    value?.to_str().ok()?.rsplit(',').next()
}

/// The parameter `for` of an element of `Forwarded`, such as `for="[2001:db8::1]:80";proto=https`.
fn for_parameter(element: &str) -> Option<&str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    Some(value.trim().trim_matches('"'))
}

/// Parses an address with or without brackets and port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let with_port = || text.parse().map(|address: SocketAddr| address.ip()).ok();
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn request(headers: &[(&'static str, &str)]) -> HttpRequest {
        let connection = "10.0.0.1:4000".parse().unwrap();
        let request = TestRequest::default().peer_addr(connection);
        let request = headers
            .iter()
            .fold(request, |request, header| request.append_header(*header));
        request.to_http_request()
    }

    fn behind_proxy(headers: &[(&'static str, &str)]) -> String {
        peer(&request(headers), PeerSource::Proxy).to_string()
    }

    #[test]
    fn without_a_trusted_proxy_headers_are_ignored() {
        let request = request(&[("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4")]);
        let address = peer(&request, PeerSource::Connection);
        assert_eq!(address.to_string(), "10.0.0.1");
    }

    #[test]
    fn the_address_added_last_is_that_of_the_client() {
        for (name, value, expected) in [
            ("x-forwarded-for", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4:5678", "1.2.3.4"),
            ("x-forwarded-for", "2001:db8::1", "2001:db8::1"),
            ("x-forwarded-for", "::ffff:1.2.3.4", "1.2.3.4"),
            (
                "forwarded",
                "for=6.6.6.6, For=1.2.3.4;proto=https",
                "1.2.3.4",
            ),
            ("forwarded", "by=b;for=\"[2001:db8::1]:80\"", "2001:db8::1"),
            ("forwarded", "for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("forwarded", "for=unknown", "10.0.0.1"),
            ("x-forwarded-for", "1.2.3.4, evil", "10.0.0.1"),
        ] {
            assert_eq!(behind_proxy(&[(name, value)]), expected, "{name}: {value}");
        }
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "1.2.3.4"),
        ];
        assert_eq!(behind_proxy(&lines), "1.2.3.4");
        let both = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "1.2.3.4")];
        assert_eq!(behind_proxy(&both), "1.2.3.4");
        assert_eq!(behind_proxy(&[]), "10.0.0.1");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_client() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("1.2.3.4"), "1.2.3.4");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
