use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use super::*;
use crate::nri::wire::Message;

/// The runtime's side of a connection.
struct Runtime {
    reader: BufReader<UnixStream>,
    calls: u32,
}

impl Runtime {
    fn call(&mut self, method: &str, payload: &[u8]) -> Result<Vec<u8>, Status> {
        self.calls += 2;
        let stream = self.calls;
        let request = ttrpc::request(stream, PLUGIN_SERVICE, method, payload);
        send(self.reader.get_ref(), mux::PLUGIN, &request).unwrap();
        let (connection, envelope) = self.next();
        assert_eq!((connection, envelope.stream), (mux::PLUGIN, stream));
        match envelope.open() {
            Ok(Call::Response(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    fn next(&mut self) -> (u32, Envelope) {
        let mut pieces = Pieces::default();
        loop {
            let frame = mux::read(&mut self.reader).unwrap().expect("a frame");
            pieces.add(&frame.payload);
            if let Some(envelope) = pieces.next().unwrap() {
                return (frame.connection, envelope);
            }
        }
    }

    fn answer(&self, stream: u32, result: &Result<Vec<u8>, Status>) {
        let response = ttrpc::response(stream, result);
        send(self.reader.get_ref(), mux::RUNTIME, &response).unwrap();
    }
}

/// What comes of a plugin whose runtime behaves like this.
fn with_runtime(behaviour: impl FnOnce(&mut Runtime) + Send + 'static) -> io::Result<Ended> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let runtime = thread::spawn(move || {
        let mut runtime = Runtime {
            reader: BufReader::new(theirs),
            calls: 1,
        };
        behaviour(&mut runtime);
    });
    let views = tempfile::tempdir().unwrap();
    let mut plugin = Plugin::new(
        "lxcfs".to_owned(),
        "10".to_owned(),
        Settings {
            views: views.path().to_owned(),
            ..Settings::default()
        },
        "/no/such/program".into(),
    );
    let ended = plugin.serve(&ours);
    runtime.join().unwrap();
    ended
}

fn register(runtime: &mut Runtime) {
    let (connection, envelope) = runtime.next();
    assert_eq!((connection, envelope.stream), (mux::RUNTIME, 1));
    let Ok(Call::Request {
        service,
        method,
        payload,
    }) = envelope.open()
    else {
        panic!("{envelope:?}")
    };
    assert_eq!(
        (service.as_str(), method.as_str()),
        (RUNTIME_SERVICE, "RegisterPlugin")
    );
    assert_eq!(payload, *b"\x0a\x05lxcfs\x12\x0210");
}

fn configure(runtime: &mut Runtime, config: &str) {
    let request = Message::default()
        .text(1, config)
        .text(2, "containerd")
        .number(5, u64::MAX);
    let events = runtime.call("Configure", &request.into_bytes());
    assert_eq!(events, Ok(vec![0x10, 0x08]));
}

#[test]
fn a_plugin_registers_and_answers_until_the_runtime_ends() {
    let ended = with_runtime(|runtime| {
        register(runtime);
        // The runtime may call before it has answered.
        configure(runtime, "");
        runtime.answer(1, &Ok(vec![]));
        assert_eq!(
            runtime.call("Synchronize", b"\x18\x01"),
            Ok(vec![0x10, 0x01])
        );
        assert_eq!(runtime.call("Synchronize", b""), Ok(vec![]));
        assert_eq!(runtime.call("StateChange", b"\x08\x01"), Ok(vec![]));
        let unknown = runtime.call("UpdatePodSandbox", b"").unwrap_err();
        assert_eq!(unknown.code, code::UNIMPLEMENTED);
        assert_eq!(runtime.call("Shutdown", b""), Ok(vec![]));
    });
    assert_eq!(ended.unwrap(), Ended::Used);
}

#[test]
fn a_container_starts_as_it_is_where_no_lxcfs_is() {
    let ended = with_runtime(|runtime| {
        register(runtime);
        configure(runtime, "no = such");
        assert_eq!(runtime.call("CreateContainer", b""), Ok(vec![]));
        // An error would keep the container from starting.
        assert_eq!(runtime.call("CreateContainer", b"\x0a\x7f"), Ok(vec![]));
        assert_eq!(
            runtime.call("Synchronize", b"\x0a\x7f").unwrap_err().code,
            code::INVALID_ARGUMENT
        );
    });
    assert_eq!(ended.unwrap(), Ended::Used);
}

#[test]
fn who_is_refused_says_why() {
    let ended = with_runtime(|runtime| {
        register(runtime);
        let status = Status {
            code: code::INVALID_ARGUMENT,
            message: "invalid plugin index".to_owned(),
        };
        runtime.answer(1, &Err(status));
    });
    assert_eq!(ended.unwrap_err().to_string(), "invalid plugin index");
    assert_eq!(
        with_runtime(|_| {})
            .map_err(|_| ())
            .unwrap_or(Ended::Refused),
        Ended::Refused
    );
    assert_eq!(with_runtime(register).unwrap(), Ended::Refused);
}

#[test]
fn garbage_ends_the_registration() {
    for garbage in [
        &b"\0\0\0\x01\xff\xff\xff\xff"[..],
        b"\0\0\0\x01\0\0\0\x0a\xff\xff\xff\xff....\x01\0",
        b"\0\0\0\x01\0\0",
    ] {
        let ended = with_runtime(move |runtime| {
            register(runtime);
            runtime.reader.get_ref().write_all(garbage).unwrap();
        });
        assert!(ended.is_err(), "{garbage:?}");
    }
    // What comes on other connections is for nobody.
    let ended = with_runtime(|runtime| {
        register(runtime);
        mux::write(runtime.reader.get_mut(), 7, b"nothing").unwrap();
        configure(runtime, "");
    });
    assert_eq!(ended.unwrap(), Ended::Used);
}
