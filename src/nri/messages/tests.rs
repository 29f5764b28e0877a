use proptest::prelude::*;

use super::*;

fn entry(key: &str, value: &str) -> Message {
    Message::default().text(1, key).text(2, value)
}

#[test]
fn a_runtime_that_configures_is_understood() {
    let request = Message::default()
        .text(1, "default = \"off\"")
        .text(2, "containerd")
        .text(3, "1.7.24")
        .number(4, 5000)
        .number(5, 2000)
        .text(6, "v0.8.0");
    let expected = Configure {
        config: "default = \"off\"".to_owned(),
        runtime_name: "containerd".to_owned(),
        runtime_version: "1.7.24".to_owned(),
        request_timeout: Some(Duration::from_secs(2)),
    };
    assert_eq!(Configure::parse(&request.into_bytes()), Ok(expected));
    assert_eq!(Configure::parse(b""), Ok(Configure::default()));
    assert_eq!(Configure::answer(), [0x10, 0x08]);
    assert_eq!(register_plugin("lxcfs", "10"), *b"\x0a\x05lxcfs\x12\x0210");
}

#[test]
fn a_container_is_read_with_its_pod() {
    let pod = Message::default()
        .text(1, "id")
        .text(2, "web")
        .text(4, "shop")
        .message(5, entry("app", "web"))
        .message(6, entry("lxcfs.rs/view", "false"))
        .message(6, entry("lxcfs.rs/view", "true"));
    let proc = Message::default()
        .text(1, "/proc")
        .text(2, "proc")
        .text(3, "proc")
        .texts(4, ["nosuid"]);
    let hook = Message::default()
        .text(1, "/usr/bin/lxcfs")
        .texts(2, ["lxcfs", "hook"]);
    let namespace = |kind| Message::default().text(1, kind).text(2, "/proc/1/ns/x");
    let container = Message::default()
        .text(3, "main")
        .number(4, 1)
        .message(9, proc)
        .message(10, Message::default().message(1, entry("/other", "x")))
        .message(10, Message::default().message(3, hook))
        .message(
            11,
            Message::default()
                .message(1, namespace("pid"))
                .message(1, namespace("mount")),
        );
    let request = Message::default().message(1, pod).message(2, container);
    let request = CreateContainer::parse(&request.into_bytes()).unwrap();
    let (pod, container) = (request.pod, request.container);
    assert_eq!((pod.name.as_str(), pod.namespace.as_str()), ("web", "shop"));
    assert_eq!(pod.labels["app"], "web");
    assert_eq!(pod.annotations["lxcfs.rs/view"], "true");
    assert_eq!(container.name, "main");
    assert_eq!(container.mounts[0].destination, Path::new("/proc"));
    assert_eq!(container.mounts[0].kind, "proc");
    assert_eq!(container.hooks, [["lxcfs", "hook"]]);
    let kinds = container.namespaces.iter();
    let kinds: Vec<_> = kinds.map(|namespace| namespace.kind.as_str()).collect();
    assert_eq!(kinds, ["pid", "mount"]);
    assert_eq!(container.namespaces[0].path, Path::new("/proc/1/ns/x"));
}

#[test]
fn more_is_answered_with_more() {
    let pod = Message::default().text(1, "id");
    let more = Message::default().message(1, pod).number(3, 1).into_bytes();
    assert_eq!(synchronized(&more).unwrap(), [0x10, 0x01]);
    assert_eq!(synchronized(b"").unwrap(), b"");
    assert_eq!(synchronized(b"\x0a\x09"), Err(Malformed));
}

#[test]
fn nothing_to_add_is_an_empty_answer() {
    assert_eq!(Adjustment::default().answer(), b"");
    let adjustment = Adjustment {
        mounts: vec![Mount {
            destination: "/a".into(),
            source: "/b".into(),
            options: vec!["ro"],
        }],
        hook: Some(Hook {
            path: "/h".into(),
            arguments: vec!["h".to_owned()],
        }),
    };
    assert_eq!(
        adjustment.answer(),
        *b"\x0a\x1f\x1a\x12\x0a\x02/a\x12\x04bind\x1a\x02/b\x22\x02ro\x2a\x09\x1a\x07\x0a\x02/h\x12\x01h"
    );
}

proptest! {
    #[test]
    fn garbage_comes_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = CreateContainer::parse(&bytes);
        let _ = Configure::parse(&bytes);
        let _ = synchronized(&bytes);
    }

    #[test]
    fn a_request_that_is_cut_off_is_no_request_or_a_shorter_one(cut in 0usize..60) {
        let pod = Message::default().text(2, "web").message(6, entry("key", "value"));
        let container = Message::default().text(3, "main").message(5, entry("key", "value"));
        let bytes = Message::default().message(1, pod).message(2, container).into_bytes();
        let cut = cut.min(bytes.len());
        let request = CreateContainer::parse(&bytes[..cut]);
        prop_assert_eq!(request.is_ok(), [0, 21, bytes.len()].contains(&cut));
    }
}
