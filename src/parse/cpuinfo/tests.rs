use super::*;

fn parse(text: &str) -> CpuInfo {
    CpuInfo::parse(text.as_bytes().to_vec())
}

/// What belongs to whom, in the order of the text.
fn owners(info: &CpuInfo) -> Vec<(Option<usize>, &str)> {
    let text = |segment| std::str::from_utf8(info.segment_text(segment)).unwrap();
    let segments = info.segments().iter();
    segments
        .map(|segment| (segment.cpu, text(segment)))
        .collect()
}

#[test]
fn a_record_ends_with_its_blank_line() {
    let info = parse("system type : x\n\nprocessor : 3\nhart : 1\n\ntimebase : 5\n");
    assert_eq!(
        owners(&info),
        [
            (None, "system type : x\n\n"),
            (Some(3), "processor : 3\nhart : 1\n\n"),
            (None, "timebase : 5\n"),
        ]
    );
    assert_eq!(info.cpus().to_string(), "3");
}

#[test]
fn an_s390_record_begins_with_its_blank_line() {
    let info = parse(
        "# processors : 2\nprocessor 0: version = FF\nprocessor 4: version = FF\n\n\
         cpu number : 0\ncpu MHz static : 5\n\ncpu number : 4\ncpu MHz static : 5\n",
    );
    assert_eq!(
        owners(&info),
        [
            (None, "# processors : "),
            (None, "2"),
            (None, "\n"),
            (Some(0), "processor 0: version = FF\n"),
            (Some(4), "processor 4: version = FF\n"),
            (Some(0), "\ncpu number : 0\ncpu MHz static : 5\n"),
            (Some(4), "\ncpu number : 4\ncpu MHz static : 5\n"),
        ]
    );
}

#[test]
fn ia64_has_a_cpu_number_inside_its_records() {
    let info = parse("processor : 3\ncpu number : 0\n\nprocessor : 5\ncpu number : 0\n\n");
    assert_eq!(info.cpus().to_string(), "3,5");
}

#[test]
fn the_name_of_an_old_arm_processor_is_no_record() {
    let info = parse("Processor : ARMv7\nprocessor : 0\n\nFeatures : neon\n");
    assert_eq!(owners(&info)[0], (None, "Processor : ARMv7\n"));
    assert_eq!(info.cpus().to_string(), "0");
}

#[test]
fn processors_in_a_list_have_no_records() {
    let info =
        parse("Processor : AArch64\nprocessor : 0\nprocessor : 4\nFeatures : fp\n\nHardware : x\n");
    assert_eq!(
        owners(&info),
        [
            (None, "Processor : AArch64\n"),
            (Some(0), "processor : 0\n"),
            (Some(4), "processor : 4\n"),
            (None, "Features : fp\n\nHardware : x\n"),
        ]
    );
    assert_eq!(info.cpus().to_string(), "0,4");
}

#[test]
fn packages_are_told_apart_by_all_their_ids() {
    let record = |cpu, book, socket, core| {
        format!(
            "\ncpu number : {cpu}\nphysical id : {socket}\ncore id : {core}\nbook id : {book}\ncpu cores : 2\n"
        )
    };
    let info = parse(&[record(0, 1, 1, 0), record(1, 1, 1, 1), record(2, 2, 1, 0)].concat());
    let packages: Vec<_> = info.packages().iter().map(|p| p.cpus.to_string()).collect();
    assert_eq!(packages, ["0-1", "2"]);
    assert_eq!(info.packages()[0].cores.len(), 2);
    assert_eq!(info.packages()[0].cpu_cores, Some(2));
}

#[test]
fn what_is_no_cpuinfo_has_no_cpus() {
    for text in [
        "",
        "\n",
        "processor",
        "processor : ",
        "processor : x\n",
        "processor : -1\n",
        "processor : +1\n",
        "processor : 99999999\n",
        "processor : 99999999999999999999999\n",
        "CPU part : 0xd08\n",
        "cpu number : 1\n",
    ] {
        let info = parse(text);
        assert!(info.cpus().is_empty(), "{text:?}");
        assert!(owners(&info).iter().all(|(cpu, _)| cpu.is_none()));
        assert_eq!(info.text(), text.as_bytes());
    }
}
