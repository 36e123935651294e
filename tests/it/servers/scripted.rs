//! A server whose every byte a test decides.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: Value,
    /// Number among the streamed requests, from 0.
    pub number: u32,
}

/// Answers on a port of its own until the test ends.
pub struct Scripted {
    pub port: u16,
}

impl Scripted {
    /// `models`: the answer to `/v1/models`; `get`: answers to other addresses; `reply`: writes the
    /// whole answer to a request that is posted.
    pub fn start(
        models: Value,
        get: impl Fn(&str) -> Option<Value> + Send + Sync + 'static,
        reply: impl Fn(&Seen, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(move |seen: &Seen, stream: &mut TcpStream| {
            if seen.path.ends_with("/models") {
                return whole(stream, "200 OK", &models);
            }
            match get(&seen.path) {
                Some(value) => whole(stream, "200 OK", &value),
                None if seen.body.is_null() => {
                    whole(stream, "404 Not Found", &json!({"error": {"message": "no such page"}}))
                }
                None => reply(seen, stream),
            }
        });
        let posted = Arc::new(AtomicU32::new(0));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, posted) = (Arc::clone(&answer), Arc::clone(&posted));
                std::thread::spawn(move || serve(stream, &*answer, &posted));
            }
        });
        Self { port }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Answers the requests of one connection.
fn serve(stream: TcpStream, answer: &(dyn Fn(&Seen, &mut TcpStream) + Send + Sync), posted: &AtomicU32) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(mut seen) = request(&mut reader) {
        if !seen.body.is_null() {
            seen.number = posted.fetch_add(1, Ordering::SeqCst);
        }
        answer(&seen, &mut writer);
        if seen.headers.iter().any(|(name, _)| name == "x-close") {
            return;
        }
    }
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = if length == 0 { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    Some(Seen { path, headers, body, number: 0 })
}

/// An answer that is no stream.
pub fn whole(stream: &mut TcpStream, status: &str, body: &Value) {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all((head + &body).as_bytes());
}

/// The head of a stream that ends with the connection.
pub fn head(stream: &mut TcpStream) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n";
    let _ = stream.write_all(head.as_bytes());
}

/// Bytes at once, in a packet of their own.
pub fn send(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) {
    let _ = stream.write_all(bytes.as_ref()).and_then(|()| stream.flush());
}

/// Ends the connection, after all that was sent has been delivered.
pub fn end(stream: &mut TcpStream) {
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

pub fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// Time between the tokens of a well-behaved server.
pub const GAP: Duration = Duration::from_millis(3);
/// Its time to the first token.
pub const FIRST: Duration = Duration::from_millis(12);
