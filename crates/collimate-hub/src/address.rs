//! Addresses of the hub and of what it redirects to.

use ureq::http::Uri;

/// An address over HTTP.
pub(crate) fn parse(url: &str) -> Result<Uri, String> {
    let uri: Option<Uri> = url.parse().ok();
    uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
        .ok_or_else(|| format!("\"{url}\" is not an address that begins with http:// or https://"))
}

/// The address that a redirect leads to. One from an encrypted connection to another is refused.
pub(crate) fn join(from: &Uri, to: &str) -> Result<Uri, String> {
    let scheme = from.scheme_str().unwrap_or("https");
    let place = from.authority().map(ToString::to_string).unwrap_or_default();
    let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let url = match to {
        _ if to.starts_with("//") => format!("{scheme}:{to}"),
        _ if to.starts_with('/') => format!("{scheme}://{place}{to}"),
        _ if to.contains("://") => to.to_owned(),
        _ => format!("{scheme}://{place}{folder}/{to}"),
    };
    let url = parse(&url)?;
    match (scheme, url.scheme_str()) {
        ("https", Some("http")) => Err(format!("a redirect to {url}, which is not encrypted")),
        _ => Ok(url),
    }
}

/// Whether two addresses have the same scheme, host and port.
pub(crate) fn is_same_place(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let host = |uri: &Uri| uri.host().unwrap_or_default().to_ascii_lowercase();
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://hub.co/a/b", "/c/d?e=f", Ok("https://hub.co/c/d?e=f"))]
    #[case("https://hub.co/a/b", "/c?from=ftp://x", Ok("https://hub.co/c?from=ftp://x"))]
    #[case("https://hub.co/a/b", "c", Ok("https://hub.co/a/c"))]
    #[case("https://hub.co/a/b", "//cdn.co/c", Ok("https://cdn.co/c"))]
    #[case("https://hub.co/a/b", "https://cdn.co/c", Ok("https://cdn.co/c"))]
    #[case("http://hub.co/a", "https://cdn.co/c", Ok("https://cdn.co/c"))]
    #[case("https://hub.co/a", "http://cdn.co/c", Err("not encrypted"))]
    #[case("https://hub.co/a", "file:///etc/passwd", Err("http://"))]
    #[case("https://hub.co/a", "ftp://cdn.co/c", Err("http://"))]
    fn a_redirect_leads_to_an_address(#[case] from: &str, #[case] to: &str, #[case] expected: Result<&str, &str>) {
        match (join(&from.parse().unwrap(), to), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.to_string(), expected),
            (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{problem}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[rstest]
    #[case("https://hub.co/x", "https://HUB.co:443/", true)]
    #[case("https://hub.co/x", "http://hub.co/x", false)]
    #[case("http://hub.co:80/x", "http://hub.co:81/x", false)]
    #[case("https://hub.co/x", "https://cdn.hub.co/x", false)]
    #[case("https://hub.co/x", "https://hub.co@cdn.co/x", false)]
    fn only_the_hub_itself_gets_the_token(#[case] a: &str, #[case] b: &str, #[case] expected: bool) {
        assert_eq!(is_same_place(&a.parse().unwrap(), &b.parse().unwrap()), expected);
    }
}
