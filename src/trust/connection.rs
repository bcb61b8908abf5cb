use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a client came over, as far as this library has seen it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Connection {
    /// The address at the other end of the socket, which may be a proxy's; `None` where the socket was
    /// accepted by the application.
    pub remote: Option<SocketAddr>,
    /// The headers of the request that opened the WebSocket; none where that was not seen here.
    pub headers: Headers,
}

/// The headers of an HTTP request, in their order. Cheap to clone; at most 16 KiB, the length of a
/// request's head.
#[derive(Clone, Default)]
pub struct Headers(Arc<[Header]>);

type Header = (Box<str>, Box<[u8]>);

impl Headers {
    /// The first value of the header `name`, in any case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All of them: names in lower case, and values as they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(headers: I) -> Self {
        Self(headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Headers {
    /// Only the names: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}
