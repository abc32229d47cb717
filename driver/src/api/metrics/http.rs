//! As much of HTTP/1.1 (RFC 9112) as a scrape needs: one GET or HEAD, one answer, and the connection ends.
//!
//! Whoever connects is a stranger. A request has few bytes and a deadline, so has the answer, there are few places, and
//! one page is made at a time: nobody delays the daemon. Does not know what is on the page.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Mutex, Semaphore};

use super::page;
use crate::engine::Engine;
use crate::engine::publish::blocking;

/// Clients at once; more are told that there is no place.
const PLACES: usize = 16;

/// So many of them; whoever comes then is turned away.
const REFUSED: usize = 64;

/// The longest request.
const LONGEST: usize = 8 << 10;

/// For the request, and once more for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something that takes connections.
pub trait Accept: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        Ok(Self::accept(self).await?.0)
    }
}

impl Accept for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        Ok(Self::accept(self).await?.0)
    }
}

/// Serves until the daemon ends.
pub async fn serve(engine: Arc<Engine>, listener: impl Accept) {
    let (places, turn) = (Arc::new(Semaphore::new(PLACES)), Arc::new(Mutex::new(())));
    let refused = Arc::new(Semaphore::new(REFUSED));
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let Ok(place) = places.clone().try_acquire_owned() else {
                    if let Ok(place) = refused.clone().try_acquire_owned() {
                        tokio::spawn(async move {
                            drop(refuse(stream).await);
                            drop(place);
                        });
                    }
                    continue;
                };
                let (engine, turn) = (engine.clone(), turn.clone());
                tokio::spawn(async move {
                    // A client that does not keep to the rules is not worth a line in the log.
                    drop(answer(&engine, &turn, stream).await);
                    drop(place);
                });
            }
            Err(e) => {
                tracing::warn!("cannot accept a connection for metrics: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// What it asks for is read, so that the answer arrives.
async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let text = format!("{PLACES} clients are served already\n");
    let bytes = response("503 Service Unavailable\r\nRetry-After: 5", "text/plain", &text);
    within(read(&mut stream)).await?;
    within(send(&mut stream, &bytes)).await
}

/// As long as somebody is waited for.
async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.shutdown().await
}

async fn answer(
    engine: &Arc<Engine>,
    turn: &Mutex<()>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let request = within(read(&mut stream)).await?;
    let bytes = match route(&request) {
        Route::Page => {
            let _turn = turn.lock().await;
            let engine = engine.clone();
            engine.watch_meters();
            match blocking(move || page::text(&engine).map_err(io::Error::other)).await {
                Ok(text) => response("200 OK", page::CONTENT_TYPE, &text),
                Err(e) => response("500 Internal Server Error", "text/plain", &format!("{e}\n")),
            }
        }
        Route::Nowhere => response("404 Not Found", "text/plain", "the page is /metrics\n"),
        Route::Other => {
            response("405 Method Not Allowed\r\nAllow: GET, HEAD", "text/plain", "only GET and HEAD\n")
        }
        Route::Bad => response("400 Bad Request", "text/plain", "this is not HTTP\n"),
    };
    // The same without what it is about, however it went (RFC 9110, section 9.3.2).
    let bytes = if request.starts_with(b"HEAD ") { head(&bytes) } else { &bytes };
    within(send(&mut stream, bytes)).await
}

/// The head of a request, or as much as is read of one that is too long. What comes behind is not read.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let got = stream.read(&mut chunk).await?;
        bytes.extend_from_slice(&chunk[..got]);
        if is_whole(&bytes) || bytes.len() > LONGEST {
            return Ok(bytes);
        }
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Whether there is an empty line. Lines may end without a carriage return (RFC 9112, section 2.2).
fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|w| w == b"\r\n\r\n") || head.windows(2).any(|w| w == b"\n\n")
}

#[derive(Debug, PartialEq, Eq)]
enum Route {
    Page,
    Nowhere,
    Other,
    Bad,
}

fn route(request: &[u8]) -> Route {
    let line = request.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Ok(line) = std::str::from_utf8(line) else { return Route::Bad };
    if !is_whole(request) {
        return Route::Bad;
    }
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        [method, target, version] if version.starts_with("HTTP/1.") => {
            // The absolute form, which every server has to take (RFC 9112, section 3.2.2).
            let rest = target.strip_prefix("http://").and_then(|t| t.find('/').map(|at| &t[at..]));
            let path = rest.unwrap_or(target).split('?').next().unwrap_or_default();
            match (method, path) {
                ("GET" | "HEAD", "/metrics") => Route::Page,
                ("GET" | "HEAD", _) => Route::Nowhere,
                _ => Route::Other,
            }
        }
        _ => Route::Bad,
    }
}

/// All before the body, and what separates them.
fn head(response: &[u8]) -> &[u8] {
    let end = response.windows(4).position(|w| w == b"\r\n\r\n").map_or(response.len(), |at| at + 4);
    &response[..end]
}

fn response(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        assert_eq!(route(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), Route::Page);
        assert_eq!(route(b"GET /metrics?a=b HTTP/1.0\r\n\r\n"), Route::Page);
        assert_eq!(route(b"GET / HTTP/1.1\r\n\r\n"), Route::Nowhere);
        assert_eq!(route(b"POST /metrics HTTP/1.1\r\n\r\n"), Route::Other);
        assert_eq!(route(b"HEAD /metrics HTTP/1.1\r\n\r\n"), Route::Page);
        assert_eq!(route(b"GET /metrics HTTP/1.1\nHost: x\n\n"), Route::Page);
        assert_eq!(route(b"GET http://h:9177/metrics HTTP/1.1\r\n\r\n"), Route::Page);
        assert_eq!(route(b"GET http://h:9177/ HTTP/1.1\r\n\r\n"), Route::Nowhere);
        assert_eq!(route(b"GET http://h HTTP/1.1\r\n\r\n"), Route::Nowhere);
        for bad in [
            &b"\r\n\r\n"[..],
            b"GET /metrics\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\n",
            b"GET  /metrics HTTP/1.1\r\n",
            b"\xff /m HTTP/1.1",
            b"",
        ] {
            assert_eq!(route(bad), Route::Bad);
        }
    }

    #[tokio::test]
    async fn who_finds_no_place_is_told() {
        let (mut client, server) = tokio::io::duplex(16 << 10);
        client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.expect("sent");
        refuse(server).await.expect("answered");
        let mut text = String::new();
        client.read_to_string(&mut text).await.expect("read");
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n"), "{text}");
    }

    #[tokio::test]
    async fn the_head_of_a_request_has_an_end() {
        for (sent, whole) in [(vec![b'x'; LONGEST + 1], false), (b"GET / HTTP/1.1\n\nmore".to_vec(), true)] {
            let (mut client, mut server) = tokio::io::duplex(64 << 10);
            client.write_all(&sent).await.expect("sent");
            assert_eq!(is_whole(&read(&mut server).await.expect("read")), whole);
        }
        let (client, mut server) = tokio::io::duplex(16);
        drop(client);
        assert!(read(&mut server).await.is_err());
    }

    #[test]
    fn answers_say_how_long_they_are() {
        let text = String::from_utf8(response("200 OK", "text/plain", "hi\n")).expect("text");
        assert!(text.ends_with("Content-Length: 3\r\nConnection: close\r\n\r\nhi\n"), "{text}");
        assert!(head(text.as_bytes()).ends_with(b"Content-Length: 3\r\nConnection: close\r\n\r\n"));
    }
}
