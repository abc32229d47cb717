//! `<berth:limits>` and `<berth:rlimit>`: what they mean, and that a wrong one is refused with its reason.

mod common;

use berth_domain::{Credential, CredentialSource, LimitSettings, Rlimit, RlimitName};

fn with(inside: &str) -> String {
    format!(
        "<domain type='lxc'><name>x</name><memory>65536</memory>\
         <metadata><berth:settings xmlns:berth='urn:berth:domain:1'>{inside}</berth:settings></metadata>\
         <os><type>exe</type><init>/i</init></os>\
         <devices><filesystem type='mount'><source dir='/r'/><target dir='/'/></filesystem></devices></domain>"
    )
}

#[test]
fn limits_are_read_without_a_warning() {
    let xml = with(
        "<berth:limits pids='100' oom-score='-5' cpu-allowance='150%'/>\
         <berth:rlimit name='nofile' soft='10' hard='20'/><berth:rlimit name='core' soft='0'/>\
         <berth:rlimit name='memlock' hard='unlimited'/>",
    );
    let parsed = berth_domain::parse(&xml, &common::host()).expect("a good document");
    assert_eq!(parsed.warnings, []);
    let limit = |name, soft, hard| Rlimit { name, soft, hard };
    let expected = LimitSettings {
        pids: Some(100),
        oom_score: Some(-5),
        cpu_allowance: Some(150),
        rlimits: vec![
            limit(RlimitName::Nofile, Some(10), Some(20)),
            limit(RlimitName::Core, Some(0), Some(0)),
            limit(RlimitName::Memlock, None, None),
        ],
    };
    assert_eq!(parsed.domain.limit_settings(), expected);
    let again = berth_domain::parse(&parsed.domain.to_xml(), &common::host()).expect("read again");
    assert_eq!(again.domain.limit_settings(), expected);
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let parse = |inside: &str| {
        let xml = with("").replace("<os>", &format!("{inside}<os>"));
        berth_domain::parse(&xml, &common::host()).map(drop).map_err(|e| e.to_string())
    };
    let both = "the swap_hard_limit, 65535 KiB, is of memory and swap together, and less than the";
    for (inside, reason) in [
        (
            "<memtune><swap_hard_limit>65535</swap_hard_limit></memtune>",
            format!("{both} memory of the domain, 65536 KiB"),
        ),
        (
            "<memtune><hard_limit>70000</hard_limit><swap_hard_limit>65535</swap_hard_limit></memtune>",
            format!("{both} hard_limit, 70000 KiB"),
        ),
        (
            "<memtune><hard_limit>0</hard_limit></memtune>",
            "hard_limit must be more than 0; without one there is no limit".into(),
        ),
    ] {
        let error = parse(inside).expect_err(inside);
        assert!(error.contains(&reason), "{inside}: {error}");
    }
    for inside in [
        "<currentMemory>1000</currentMemory><memtune><swap_hard_limit>1000</swap_hard_limit></memtune>",
        "<memtune><hard_limit>1000</hard_limit><swap_hard_limit>1000</swap_hard_limit></memtune>",
        "<memtune><soft_limit>0</soft_limit></memtune>",
    ] {
        assert_eq!(parse(inside), Ok(()), "{inside}");
    }
    // A quota of -1 is none.
    let allowance = with("<berth:limits cpu-allowance='50%'/>");
    let tune = |inside: &str| {
        let xml = allowance.replace("<os>", &format!("<cputune>{inside}</cputune><os>"));
        berth_domain::parse(&xml, &common::host()).is_ok()
    };
    assert!(tune("<quota>-1</quota>") && tune("<period>100000</period><quota>-1</quota>"));
    assert!(!tune("<quota>50000</quota>") && !tune("<period>100000</period>"));
}

#[test]
fn pressure_is_a_percentage_of_each_resource() {
    let xml = with("<berth:pressure cpu='50%' memory='100%'/>");
    let parsed = berth_domain::parse(&xml, &common::host()).expect("good");
    assert_eq!(parsed.warnings, Vec::new());
    let settings = parsed.domain.pressure_settings();
    assert_eq!((settings.cpu, settings.memory, settings.io), (Some(50), Some(100), None));
    for (inside, reason) in [
        ("<berth:pressure cpu='50'/>", "'50' of 'cpu' is not a percentage from '1%' to '100%'"),
        ("<berth:pressure io='101%'/>", "'101%' of 'io' is not a percentage"),
        ("<berth:pressure memory='0%'/>", "'0%' of 'memory' is not a percentage"),
        ("<berth:pressure disk='1%'/>", "the attribute 'disk' is unknown"),
        ("<berth:pressure/><berth:pressure/>", "there is a second one"),
    ] {
        let error = berth_domain::parse(&with(inside), &common::host()).expect_err(inside);
        assert!(error.diagnostics[0].message.starts_with(reason), "{inside}: {error}");
    }
}

#[test]
fn credentials_have_a_name_and_one_source() {
    let xml = with(
        "<berth:credential name='a.b@c' file='/srv/x'/><berth:credential name='d' value='v &amp; w'/>\
         <berth:credential name='empty' value=''/><berth:credential name=' two  words ' value='x'/>",
    );
    let parsed = berth_domain::parse(&xml, &common::host()).expect("good");
    assert_eq!(parsed.warnings, Vec::new());
    let of = |name: &str, source| Credential { name: name.into(), source };
    let value = |text: &str| CredentialSource::Value(text.into());
    let wanted = [
        of("a.b@c", CredentialSource::File("/srv/x".into())),
        of("d", value("v & w")),
        of("empty", value("")),
        of(" two  words ", value("x")),
    ];
    assert_eq!(parsed.domain.credentials(), wanted);
    let again = berth_domain::parse(&parsed.domain.to_xml(), &common::host()).expect("good");
    assert_eq!(again.domain.credentials(), wanted);
    let both = "one of the attributes 'file' and 'value' must be there, and not both";
    for (inside, reason) in [
        ("<berth:credential value='v'/>", "the attribute 'name' is missing"),
        ("<berth:credential name='' value='v'/>", "'' is no name of a credential"),
        ("<berth:credential name='..' value='v'/>", "'..' is no name of a credential"),
        ("<berth:credential name='a/b' value='v'/>", "'a/b' is no name of a credential"),
        (
            "<berth:credential name='.' value='v'/>",
            "'.' is no name of a credential: 1 to 255 printable ASCII characters without '/' and ':', and not '.' or '..'",
        ),
        ("<berth:credential name='a&#9;b' value='v'/>", "'a\\tb' is no name of a credential"),
        ("<berth:credential name='a:b' value='v'/>", "'a:b' is no name of a credential"),
        ("<berth:credential name='ä' value='v'/>", "'ä' is no name of a credential"),
        ("<berth:credential name='a'/>", both),
        ("<berth:credential name='a' file='/x' value='v'/>", both),
        ("<berth:credential name='a' file='x'/>", "the path 'x' is not absolute"),
        ("<berth:credential name='a' text='x'/>", "the attribute 'text' is unknown"),
        (
            "<berth:credential name='a' value=''/><berth:credential name='a' value='v'/>",
            "there is a second one with the name 'a'",
        ),
    ] {
        let error = berth_domain::parse(&with(inside), &common::host()).expect_err(inside);
        assert!(error.diagnostics[0].message.starts_with(reason), "{inside}: {error}");
    }
    let many: String = (0..65).map(|n| format!("<berth:credential name='c{n}' value=''/>")).collect();
    let error = berth_domain::parse(&with(&many), &common::host()).expect_err("65 of them");
    assert!(error.to_string().contains("there are more than 64 credentials"), "{error}");
}

#[test]
fn the_number_of_processes_can_be_changed() {
    let parse = |xml: &str| berth_domain::parse(xml, &common::host()).expect("a good document").domain;
    for before in
        [with(""), with("<berth:limits pids='7' oom-score='3'/>"), with("<berth:idmap mode='none'/>")]
    {
        let mut domain = parse(&before);
        let score = domain.limit_settings().oom_score;
        domain.set_pids(Some(50)).expect("set");
        assert_eq!(parse(&domain.to_xml()).limit_settings().pids, Some(50), "{before}");
        domain.set_pids(None).expect("taken away");
        let after = parse(&domain.to_xml());
        assert_eq!(
            (after.limit_settings().pids, after.limit_settings().oom_score),
            (None, score),
            "{before}"
        );
        assert_eq!(after.id_map_mode(), parse(&before).id_map_mode());
        assert!(domain.set_pids(Some(0)).is_err());
        domain.set_cpu_allowance(Some(150)).expect("set");
        assert_eq!(parse(&domain.to_xml()).limit_settings().cpu_allowance, Some(150), "{before}");
        domain.set_cpu_allowance(None).expect("taken away");
        assert_eq!(parse(&domain.to_xml()).limit_settings(), after.limit_settings());
        assert!(domain.set_cpu_allowance(Some(0)).is_err());
    }
    let plain = with("").replace("<metadata>", "<!--").replace("</metadata>", "-->");
    let mut domain = parse(&plain);
    domain.set_pids(Some(9)).expect("set");
    assert_eq!(parse(&domain.to_xml()).limit_settings().pids, Some(9));
}

#[test]
fn wrong_limits_are_refused() {
    for (inside, reason) in [
        ("<berth:limits pids='0'/>", "'0' of 'pids' is not a number from 1 to 4194304"),
        ("<berth:limits oom-score='1001'/>", "'1001' of 'oom-score' is not a number from -1000 to 1000"),
        (
            "<berth:limits cpu-allowance='50'/>",
            "'50' of 'cpu-allowance' is not a percentage of one CPU from '1%' on",
        ),
        ("<berth:limits mem='1'/>", "the attribute 'mem' is unknown"),
        ("<berth:limits pids='1'/><berth:limits/>", "there is a second one"),
        ("<berth:rlimit name='nofile'/>", "one of the attributes 'soft' and 'hard' must be there"),
        ("<berth:rlimit name='nofile' soft='3' hard='2'/>", "'soft' is more than 'hard'"),
        ("<berth:rlimit name='nofile' soft='-1'/>", "'-1' of 'soft' is neither a number nor 'unlimited'"),
        (
            "<berth:rlimit name='cpu' soft='1'/><berth:rlimit name='cpu' soft='1'/>",
            "there is a second one for 'cpu'",
        ),
        ("<berth:rlimit name='files' soft='1'/>", "'files' is no limit, there are as, core"),
    ] {
        let error = berth_domain::parse(&with(inside), &common::host()).expect_err(inside);
        assert!(error.diagnostics[0].message.starts_with(reason), "{inside}: {error}");
        assert!(error.diagnostics[0].line > 0);
    }
    let quota = with("<berth:limits cpu-allowance='50%'/>")
        .replace("<os>", "<cputune><quota>1000</quota></cputune><os>");
    let error = berth_domain::parse(&quota, &common::host()).expect_err("both");
    assert!(error.to_string().contains("exclude each other"), "{error}");
}

#[test]
fn forwarded_ports_need_a_network() {
    let nic = "<interface type='network'><source network='n'/></interface></devices>";
    let with = |inside: &str| with(inside).replace("</devices>", nic);
    let xml = with(
        "<berth:forward host-port='8080' port='80'/>\
         <berth:forward proto='udp' host-address='192.0.2.1' host-port='8080'/>",
    );
    let parsed = berth_domain::parse(&xml, &common::host()).expect("good");
    assert_eq!(parsed.warnings, Vec::new());
    let forwards = parsed.domain.forwards();
    let told: Vec<_> =
        forwards.iter().map(|f| (f.protocol.as_str(), f.host_port, f.port, &*f.guest)).collect();
    assert_eq!(told, [("tcp", 8080, 80, "x"), ("udp", 8080, 8080, "x")]);
    for (inside, reason) in [
        ("<berth:forward port='80'/>", "the attribute 'host-port' is missing"),
        ("<berth:forward host-port='80' guest='y'/>", "the attribute 'guest' is unknown"),
        ("<berth:forward host-port='0'/>", "host-port '0' is not a port"),
        (
            "<berth:forward host-port='1'/><berth:forward host-port='1' port='2'/>",
            "the port 1/tcp is forwarded already",
        ),
        ("<berth:forward host-port='1' host-address='x'/>", "host-address 'x' is not an IP address"),
        (
            "<berth:forward host-port='1' host-address='::'/>",
            "with IPv6 ports are only forwarded to an interface with an <ip family='ipv6'>",
        ),
    ] {
        let error = berth_domain::parse(&with(inside), &common::host()).expect_err(inside);
        assert!(error.diagnostics[0].message.starts_with(reason), "{inside}: {error}");
    }
    // Each family has its ports.
    let xml = with("<berth:forward host-port='1'/><berth:forward host-port='1' host-address='::'/>").replace(
        "<source network='n'/>",
        "<source network='n'/><ip family='ipv6' address='fd00::5' prefix='64'/>",
    );
    let parsed = berth_domain::parse(&xml, &common::host()).expect("both families");
    let families: Vec<bool> = parsed.domain.forwards().iter().map(|f| f.is_ipv6()).collect();
    assert_eq!(families, [false, true]);
    let error = berth_domain::parse(&self::with("<berth:forward host-port='1'/>"), &common::host());
    let error = error.expect_err("no interface");
    assert!(error.to_string().contains("only forwarded to a domain with an interface"), "{error}");
}

#[test]
fn a_quota_and_a_period_of_0_are_none() {
    let tuned = |inside: &str| {
        let xml = with("").replace("<os>", &format!("<cputune>{inside}</cputune><os>"));
        berth_domain::parse(&xml, &common::host()).map(|p| p.domain.cputune.map(|c| (c.period, c.quota)))
    };
    assert_eq!(tuned("<period>0</period><quota>0</quota>").expect("good"), None);
    assert_eq!(tuned("<period>0</period><quota>5000</quota>").expect("good"), Some((None, Some(5000))));
    assert_eq!(tuned("<period>5000</period><quota>0</quota>").expect("good"), Some((Some(5000), None)));
    for bad in ["<period>999</period>", "<period>-1</period>", "<quota>999</quota>"] {
        assert!(tuned(bad).is_err(), "{bad}");
    }
}
