//! Refuses requests from other sites' pages, and adds the security headers of every response.
//!
//! A page of another site that is open in the user's browser can send requests to this machine. Forms
//! that it submits carry its own `Origin`. If its host name is made to resolve to this machine, so that
//! the browser treats the responses as the page's own (DNS rebinding), `Host` is that name.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answers::Refusal;
use super::routes::Shared;

/// Headers of every response. With the referrer policy `same-origin`, the page's own requests carry their
/// origin.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
         img-src data: blob:; media-src blob:; connect-src 'self'; form-action 'none'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The host names under which the server accepts requests.
#[derive(Debug)]
pub(super) struct Hosts {
    name: String,
    address: IpAddr,
}

impl Hosts {
    /// Creates the set for a server that listens on `address`, for which the user has given `name`.
    pub(super) fn new(name: &str, address: IpAddr) -> Self {
        Self { name: name.to_owned(), address }
    }

    /// Whether a request for `host`, with or without a port, is for this server. The port is not compared,
    /// since a forwarded port differs. `localhost` and IP addresses are safe: no attacker's page can have
    /// them as its name.
    fn include(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        if host.contains('@') {
            return false;
        }
        let host = authority.host();
        let number = host.trim_start_matches('[').trim_end_matches(']');
        match number.parse::<IpAddr>() {
            Ok(number) => {
                let address = self.address;
                address == number
                    || address.is_unspecified()
                    || address.is_loopback() && number.is_loopback()
            }
            Err(_) => [&*self.name, "localhost"].iter().any(|own| host.eq_ignore_ascii_case(own)),
        }
    }
}

/// Passes on requests for this server, refuses others, and adds the headers of every response.
pub(super) async fn guard(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match refusal(&shared.hosts, &request) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(hosts: &Hosts, request: &Request) -> Option<Refusal> {
    let host = only(request.headers(), header::HOST).flatten().unwrap_or_default();
    let named = request.uri().authority().is_none_or(|named| hosts.include(named.as_str()));
    if !named || !hosts.include(host) {
        return Some(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "the Host header names another server; start the server with --host and the name or address \
             that clients use",
        ));
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let own = |origin: &str| {
        let after = |scheme| origin.strip_prefix(scheme);
        after("http://").or(after("https://")).is_some_and(|of| of.eq_ignore_ascii_case(host))
    };
    match only(request.headers(), header::ORIGIN) {
        // The request does not come from a browser's page.
        None => None,
        Some(origin) if origin.is_some_and(own) => None,
        Some(_) => {
            Some(Refusal::new(StatusCode::FORBIDDEN, "the request comes from another site's page"))
        }
    }
}

/// Returns a header, if present; `Some(None)` if it occurs twice or is not text.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<Option<&str>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(first.to_str().ok().filter(|_| values.next().is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_others_can_choose_are_refused() {
        let include = |bound: &str, name: &str, host: &str| {
            Hosts::new(name, bound.parse().unwrap()).include(host)
        };
        for own in ["127.0.0.1:8080", "127.0.0.1", "localhost:9000", "LOCALHOST", "[::1]:8080"] {
            assert!(include("127.0.0.1", "127.0.0.1", own), "{own}");
        }
        let others = [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "evil@localhost",
            "192.168.1.5:8080",
            "0.0.0.0",
            "localhost/x",
            "[::1",
        ];
        for other in others {
            assert!(!include("127.0.0.1", "127.0.0.1", other), "{other}");
        }
        assert!(include("192.168.1.5", "box.lan", "box.lan:8080"));
        assert!(include("192.168.1.5", "box.lan", "192.168.1.5"));
        assert!(!include("192.168.1.5", "box.lan", "192.168.1.6"));
        assert!(include("0.0.0.0", "0.0.0.0", "192.168.1.5:8080"));
        assert!(!include("0.0.0.0", "0.0.0.0", "evil.example"));
    }
}
