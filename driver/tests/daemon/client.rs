//! A client that speaks bytes.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// A connection.
pub struct Client {
    pub stream: UnixStream,
    pub buffer: Vec<u8>,
}

impl Client {
    pub fn connect(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("sent");
    }

    pub fn send_call(&mut self, method: &str, parameters: &Value, flag: &str) {
        let mut call = json!({ "method": full(method), "parameters": parameters });
        if !flag.is_empty() {
            call[flag] = json!(true);
        }
        self.send(&format!("{call}\0"));
    }

    /// The next reply; none at the end of the connection.
    pub fn try_reply(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == 0) {
                let rest = self.buffer.split_off(end + 1);
                let message = std::mem::replace(&mut self.buffer, rest);
                return Some(serde_json::from_slice(&message[..end]).expect("JSON"));
            }
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("no reply: {e}"),
            }
        }
    }

    pub fn reply(&mut self) -> Value {
        self.try_reply().expect("a reply, not the end")
    }

    /// The next event that a listener hears of.
    pub fn event(&mut self) -> Value {
        self.reply()["parameters"]["event"].clone()
    }

    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.send_call(method, parameters, "");
        self.reply()
    }

    /// The parameters of a good reply.
    pub fn good(&mut self, method: &str, parameters: &Value) -> Value {
        let reply = self.call(method, parameters);
        assert!(reply.get("error").is_none(), "{method} {parameters}: {reply}");
        reply["parameters"].clone()
    }

    /// Last part of the name, and the message, of an error.
    pub fn bad(&mut self, method: &str, parameters: &Value) -> (String, String) {
        let reply = self.call(method, parameters);
        let name = reply["error"].as_str().unwrap_or_else(|| panic!("{method} {parameters}: {reply}"));
        let short = name.rsplit('.').next().unwrap_or_default().to_owned();
        (short, reply["parameters"]["message"].as_str().unwrap_or_default().to_owned())
    }

    /// All replies of a call with `more`.
    pub fn all(&mut self, method: &str, parameters: &Value) -> Vec<Value> {
        self.send_call(method, parameters, "more");
        let mut all = Vec::new();
        loop {
            let reply = self.reply();
            let last = reply["continues"] != json!(true);
            all.push(reply["parameters"].clone());
            if last {
                return all;
            }
        }
    }

    /// A call with descriptors.
    pub fn send_with(&mut self, method: &str, parameters: &Value, descriptors: &[OwnedFd]) {
        let bytes = format!("{}\0", json!({ "method": full(method), "parameters": parameters }));
        let borrowed: Vec<_> = descriptors.iter().map(std::os::fd::AsFd::as_fd).collect();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&borrowed)));
        let slices = [std::io::IoSlice::new(bytes.as_bytes())];
        rustix::net::sendmsg(&self.stream, &slices, &mut control, rustix::net::SendFlags::NOSIGNAL)
            .expect("sent");
    }

    /// A reply with descriptors, which must come in one piece.
    pub fn reply_with(&mut self) -> (Value, Vec<OwnedFd>) {
        let mut bytes = [0; 65536];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let got = rustix::net::recvmsg(
            &self.stream,
            &mut [std::io::IoSliceMut::new(&mut bytes)],
            &mut control,
            rustix::net::RecvFlags::CMSG_CLOEXEC,
        )
        .expect("received");
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let rustix::net::RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        (serde_json::from_slice(&bytes[..got.bytes - 1]).expect("JSON"), descriptors)
    }

    /// The raw bytes until there are so many.
    pub fn raw(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            let mut chunk = [0; 4096];
            let n = self.stream.read(&mut chunk).expect("read");
            assert_ne!(n, 0, "the end, after {:?}", String::from_utf8_lossy(&self.buffer));
            self.buffer.extend_from_slice(&chunk[..n]);
        }
        self.buffer.drain(..count).collect()
    }
}

fn full(method: &str) -> String {
    if method.contains('.') { method.to_owned() } else { format!("io.berth.Domain.{method}") }
}
