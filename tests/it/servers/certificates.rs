//! TLS: a server is believed only with a certificate of its name that somebody trusted has signed.

use std::io::BufRead as _;
use std::path::PathBuf;

use inferometer::record::Status;

use super::{FOUR, Scripted, scenario};
use crate::lab::{Lab, statuses};

/// A server behind TLS, in Python, whose certificate an authority of its own has signed.
const TLS_SERVER: &str = r#"
import http.server, json, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if not self.path.endswith("/models"): return self.send_error(404)
        self.answer("application/json", json.dumps({"data": [{"id": "fox"}]}).encode())
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        words = ("A", " fox", " ran")[:asked["max_tokens"]]
        events = [{"choices": [{"text": word, "finish_reason": None}]} for word in words]
        usage = {"prompt_tokens": 5, "completion_tokens": len(words)}
        events += [{"choices": [{"text": "", "finish_reason": "length"}], "usage": usage}]
        self.answer("text/event-stream", "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode())
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// Ends a process with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_certificate_is_checked() {
    let lab = Lab::new();
    let tls = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls"));
    let mut command = std::process::Command::new("python3");
    command.args(["-c", TLS_SERVER]).arg(tls.join("server.pem")).stdout(std::process::Stdio::piped());
    let mut server = Ended(command.spawn().unwrap());
    let mut line = String::new();
    std::io::BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port: u16 = line.trim().parse().unwrap();
    let path = scenario(&lab, &Scripted { port }, "", FOUR);
    let text = fs_err::read_to_string(&path).unwrap();
    let run = |host: &str, trusted: Option<&str>| {
        let text = text.replace("http://127.0.0.1", &format!("https://{host}"));
        fs_err::write(&path, text.replace("max_tokens = 12", "max_tokens = 3")).unwrap();
        let _ = fs_err::remove_dir_all(lab.path("results"));
        let mut program = lab.program(&["run", path.to_str().unwrap()]);
        trusted.map(|file| program.env("SSL_CERT_FILE", tls.join(file)));
        lab.done(program.output().unwrap())
    };
    run("localhost", None).expect(2).says("certificate");
    run("localhost", Some("authority.pem")).expect(0);
    assert_eq!(statuses(&lab.record()), [Status::Ok; 4]);
    run("127.0.0.1", Some("authority.pem")).expect(2).says("certificate");
}
