//! Commands of modules, and how the answers of the management protocol print.
//!
//! `deploy NAME in=A,B [out=C] [dlq=D] [members=N] [start=S] [version=V] [late=MS] [idle=MS] [ttl=MS] [wait=1] [canary=TASKS [failures=N] [lag=N] [after=MS]]
//!   [shadow=BATCHES] [layout=N] [more=JSON]`: JSON is more of the manifest's top level, N as in `migrating.rs`
//! `loaded NAME [version=V] [error=TEXT]`: the host answers each `load` of that module, or of that version
//! `rewind NAME [to=START] [reset=1]`, `redrive NAME [code=C] [dry=1]`
//! `rollback NAME [to=V] [restore=1] [wait=1]`, `promote NAME [wait=1]`, `history NAME`; `components`: how many must be kept; `rows`: how many there
//!   are of the state of all modules
//! `process [COUNT] [first=N] [as=trap|timeout|retry]`: the guest of `guest.rs` runs what was asked for, COUNT times (default: until
//!   nothing is asked for), or fails in this way whatever it is given
//! `lose`: the host never answers the oldest run; `runs`: those that are with it, and whether they are the first of their owner
//! `status NAME`, `list`, `logs NAME [tail=N] [follow=1]`, `pause NAME [reason=TEXT]`, `resume NAME`, `delete-module NAME`
//! `state NAME TASK`: what the guest has counted; `dead-letters TOPIC/PARTITION`: records with their headers
use std::{error::Error, fmt::Write as _};

use goldenscript::Command;
use tidemill_broker::{
    effect::{LogRead, Table},
    module::{
        Asked, Version,
        run::{Kind, Verdict},
        state_key,
    },
};
use tidemill_protocol::{
    admin::{Answer, Call, Canary, Digest, ModuleStatus, VersionStatus},
    api::Response,
    batch::batches,
    manifest::Manifest,
};

use crate::{Output, guest, migrating, records::place, timers, world::World};

type Done = Result<(), Box<dyn Error>>;

pub fn run(world: &mut World, command: &Command) -> Option<Output> {
    let run = match command.name.as_str() {
        "deploy" => deploy,
        "loaded" => loaded,
        "process" => process,
        "lose" => lose,
        "runs" => runs,
        "status" | "list" | "logs" | "pause" | "resume" | "delete-module" | "rollback" | "promote" | "history"
        | "rewind" | "redrive" => call,
        "components" => components,
        "rows" => rows,
        "state" => state,
        "dead-letters" => dead_letters,
        _ => return None,
    };
    Some(run(world, command).map(|()| String::new()))
}

pub fn show(_response: &Response) -> Option<String> {
    None
}

/// One line of a management answer; a module takes several.
pub fn show_answer(answer: &Answer) -> String {
    match answer {
        Answer::Progress { stage, message } => format!("{stage}: {message}"),
        Answer::Module(status) => show_status(status),
        Answer::Version(version) => show_version(version),
        Answer::Log(line) => format!("log {} task {}: {}", line.level, line.task, line.message),
        Answer::State(page) => format!("{page:?}"),
        Answer::Node(node) => format!("{node:?}"),
        Answer::Done => "done".into(),
        Answer::Error { code, message, hint } => {
            let hint = hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
            format!("error {code:?}: {message}{hint}")
        }
    }
}

fn show_status(status: &ModuleStatus) -> String {
    let ModuleStatus {
        module,
        version,
        state,
        counters,
        ..
    } = status;
    let reason = status
        .reason
        .as_ref()
        .map_or(String::new(), |reason| format!(" ({reason})"));
    let mut lines = format!("{module} {version} {state:?}{reason}");
    write!(
        lines,
        "\n  in {} out {} batches {} given up {} failures {} refused {}",
        counters.records_in,
        counters.records_out,
        counters.batches,
        counters.given_up,
        counters.failures,
        counters.refused
    )
    .unwrap();
    if let Some(rollout) = &status.rollout {
        let trial = if rollout.canary.is_some() { "canary" } else { "rollout" };
        write!(
            lines,
            "\n  {trial} to {} on {} tasks, failures {}",
            rollout.version, rollout.tasks, rollout.failures
        )
        .unwrap();
    }
    for table in &status.tables {
        let ms = table.behind_ms.map_or("?".into(), |ms| ms.to_string());
        write!(
            lines,
            "\n  table {} of {} behind {} records {ms} ms, left out {}",
            table.name, table.topic, table.behind, table.left_out
        )
        .unwrap();
    }
    for task in &status.tasks {
        let owner = task.member.as_deref().unwrap_or("nobody");
        write!(
            lines,
            "\n  task {} {:?} of {owner} attempt {}",
            task.number, task.phase, task.attempt
        )
        .unwrap();
        if status.rollout.is_some() {
            write!(lines, " runs {}", task.version).unwrap();
        }
        if let Some(watermark) = task.watermark {
            write!(lines, " watermark {watermark}").unwrap();
        }
        for input in &task.inputs {
            write!(lines, " {}@{}/{}", input.topic, input.position, input.high_watermark).unwrap();
        }
        if let Some(error) = &task.last_error {
            write!(lines, " last error: {error}").unwrap();
        }
    }
    lines
}

fn show_version(version: &VersionStatus) -> String {
    let mut line = format!(
        "{} {} {:?} by {}",
        version.number, version.version, version.state, version.by
    );
    if version.state_version != 0 {
        write!(line, " layout {}", version.state_version).unwrap();
    }
    if let Some(reason) = &version.returned {
        write!(line, " returned: {reason}").unwrap();
    }
    for change in &version.changes {
        write!(line, "\n  {change}").unwrap();
    }
    line
}

fn components(world: &mut World, command: &Command) -> Done {
    command.consume_args().reject_next()?;
    world.print(&format!("{} components are kept", world.kept.len()));
    Ok(())
}

fn rows(world: &mut World, command: &Command) -> Done {
    command.consume_args().reject_next()?;
    let rows = world.store.rows.keys();
    let rows = rows.filter(|(table, _)| *table == Table::ModuleState).count();
    world.print(&format!("{rows} rows of state"));
    Ok(())
}

fn deploy(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let name = args.next_pos().ok_or("name?")?.to_owned();
    let start = args.take_key("start").unwrap_or("earliest").to_owned();
    let mut time = |name: &str, key: &str| {
        let ms = args.take_key(name).map(|ms| format!(r#","{key}":"{ms}ms""#));
        ms.unwrap_or_default()
    };
    let times = time("late", "max-out-of-order") + &time("idle", "idle-after");
    let input = args.take_key("in").ok_or("in?")?.split(',');
    let input: Vec<_> = input
        .map(|topic| format!(r#"{{"topic":"{topic}","start":"{start}"{times}}}"#))
        .collect();
    let output = args
        .take_key("out")
        .map(|topic| format!(r#","output":[{{"topic":"{topic}"}}]"#));
    let dead_letter = args
        .take_key("dlq")
        .map(|topic| format!(r#","dead-letter":{{"topic":"{topic}"}}"#));
    let members = args.take_key("members").unwrap_or("1").to_owned();
    let version = args.take_key("version").unwrap_or("1.0").to_owned();
    let wait = args.take_key("wait").is_some();
    let ttl = args
        .take_key("ttl")
        .map(|ms| format!(r#""ttl":"{ms}ms""#))
        .unwrap_or_default();
    let more = args.take_key("more").map(|more| format!(",{more}"));
    let shadow = args.take_key("shadow").map(str::parse).transpose()?;
    let number = |text: Option<&str>| text.map_or(Ok(0), str::parse::<u64>);
    let tasks = args.take_key("canary").map(str::parse).transpose()?;
    let failures_max = u32::try_from(number(args.take_key("failures"))?)?;
    let (lag_max, promote_after_ms) = (number(args.take_key("lag"))?, number(args.take_key("after"))?);
    let layout = u8::try_from(number(args.take_key("layout"))?)?;
    let free_bytes = args.take_key("free").map_or(Ok(u64::MAX), str::parse)?;
    let canary = tasks.map(|tasks| Canary {
        tasks,
        failures_max,
        lag_max,
        promote_after_ms,
    });
    args.reject_next()?;
    args.reject_next()?;
    let json = format!(
        r#"{{"module":{{"name":"{name}","version":"{version}","members":{members}}},"input":[{}]{}{}{},"state":{{"seen":{{{ttl}}}}}}}"#,
        input.join(","),
        output.unwrap_or_default(),
        dead_letter.unwrap_or_default(),
        more.unwrap_or_default(),
    );
    let manifest: Manifest = serde_json::from_str(&json)?;
    let mut digest = [0; 32];
    digest[..version.len()].copy_from_slice(version.as_bytes());
    digest[31] = layout;
    let digest = Digest(digest);
    let ask = |call| Asked {
        state_version: layout.into(),
        free_bytes,
        ..Asked::from(call)
    };
    if let Some(batches) = shadow {
        world.admin(ask(Call::ModuleShadow {
            manifest: manifest.into(),
            component_bytes: 8,
            digest,
            batches,
        }));
        return Ok(());
    }
    world.admin(ask(Call::ModuleDeploy {
        manifest: manifest.into(),
        component_bytes: 8,
        digest,
        wait,
        canary,
    }));
    Ok(())
}

fn loaded(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let name = args.next_pos().ok_or("name?")?.to_owned();
    let label = args.take_key("version").map(str::to_owned);
    let result = args.take_key("error").map_or(Ok(()), |error| Err(error.to_owned()));
    args.reject_next()?;
    let is_meant = |asked: &Version| asked.module == name && label.as_ref().is_none_or(|label| asked.label == *label);
    let (meant, others) = std::mem::take(&mut world.loads).into_iter().partition(is_meant);
    world.loads = others;
    for version in meant {
        world.broker.handle_loaded(world.now, &version, result.clone());
        world.settle();
    }
    Ok(())
}

fn process(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let count = args.next_pos().map_or(Ok(100), |count| count.parse())?;
    let first = args.take_key("first").map(str::parse).transpose()?;
    let fails = args.take_key("as").map(str::to_owned);
    args.reject_next()?;
    for _ in 0..count {
        if !process_next(world, first, fails.as_deref()) {
            break;
        }
    }
    Ok(())
}

/// Runs the guest once, if anything waits for it.
fn process_next(world: &mut World, first: Option<usize>, fails: Option<&str>) -> bool {
    let Some(run) = world.runs.pop_front() else {
        return false;
    };
    let values: Vec<_> = match run.kind {
        Kind::Timers(most) => timers::due(&world.store, &run, most)
            .into_iter()
            .map(|timer| format!("fires {}", timer.2))
            .collect(),
        Kind::Copy { .. } | Kind::Migrate { .. } => migrating::show(&world.store, &run).into_iter().collect(),
        _ => guest::deliver(&run).0.into_iter().map(|record| record.value).collect(),
    };
    let processed = match fails {
        Some(how) => guest::fail(&run, how),
        None => guest::process(&world.store, &run, first),
    };
    let verdict = match &processed.verdict {
        Verdict::Ack => "ack".into(),
        Verdict::Failed { kind, .. } => format!("{kind:?}").to_lowercase(),
        Verdict::Retry { .. } => "retry".into(),
        Verdict::Poison { at, .. } => format!("poison {}", at.offset),
        Verdict::Fatal(_) => "fatal".into(),
    };
    let (module, number) = (&run.task.module, run.task.number);
    let version = match run.version.number {
        1 => String::new(),
        _ => format!("{} ", run.version.label),
    };
    world.print(&format!(
        "{module}/{number} {version}attempt {} [{}]: {verdict}",
        run.attempt,
        values.join(" ")
    ));
    world.broker.handle_processed(world.now, processed);
    world.settle();
    true
}

fn lose(world: &mut World, command: &Command) -> Done {
    command.consume_args().reject_next()?;
    world.runs.pop_front().ok_or("nothing runs")?;
    Ok(())
}

fn runs(world: &mut World, command: &Command) -> Done {
    command.consume_args().reject_next()?;
    let told = world.runs.iter().map(|run| {
        let (task, fresh) = (&run.task, if run.is_fresh { " fresh" } else { "" });
        format!("{}/{} attempt {}{fresh}", task.module, task.number, run.attempt)
    });
    let told: Vec<String> = told.collect();
    told.iter().for_each(|line| world.print(line));
    Ok(())
}

fn call(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let module = args.next_pos().map(|name| name.to_owned()).unwrap_or_default();
    let call = match command.name.as_str() {
        "status" => Call::ModuleStatus { module },
        "list" => Call::ModuleList,
        "logs" => Call::ModuleLogs {
            module,
            follow: args.take_key("follow").is_some(),
            tail: args.take_key("tail").map_or(Ok(100), str::parse)?,
            level: args.take_key("level").map(str::to_owned),
        },
        "pause" => Call::ModulePause {
            module,
            reason: args.take_key("reason").map(str::to_owned),
        },
        "resume" => Call::ModuleResume { module },
        "rollback" => Call::ModuleRollback {
            module,
            to: args.take_key("to").map(str::to_owned),
            restore_state: args.take_key("restore").is_some(),
            wait: args.take_key("wait").is_some(),
        },
        "promote" => Call::ModulePromote {
            module,
            wait: args.take_key("wait").is_some(),
        },
        "history" => Call::ModuleHistory { module },
        "rewind" => Call::ModuleRewind {
            module,
            to: serde_json::from_str(&format!("\"{}\"", args.take_key("to").unwrap_or("earliest")))?,
            reset_state: args.take_key("reset").is_some(),
        },
        "redrive" => Call::ModuleRedrive {
            module,
            code: args.take_key("code").map(str::to_owned),
            dry_run: args.take_key("dry").is_some(),
        },
        _ => Call::ModuleDelete { module },
    };
    args.reject_next()?;
    world.admin(call);
    Ok(())
}

fn state(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let name = args.next_pos().ok_or("name?")?.to_owned();
    let number = args.next_pos().ok_or("task?")?.parse()?;
    args.reject_next()?;
    let Some(deployment) = world.broker.state().modules.get(&name) else {
        let rows = world
            .store
            .rows
            .keys()
            .filter(|(table, _)| *table == Table::ModuleState)
            .count();
        world.print(&format!("no such module, {rows} rows of state"));
        return Ok(());
    };
    let task = world.broker.state().modules.task_key(deployment, number);
    let rows = world
        .store
        .rows
        .iter()
        .filter(|((table, _), _)| *table == Table::ModuleState);
    let counts: Vec<_> = rows
        .filter_map(|((_, row), count)| Some((state_key::decode(&task, "seen", row)?, count)))
        .map(|(key, count)| format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(count)))
        .collect();
    let timers = timers::show(&world.store, &task);
    let timers = if timers.is_empty() {
        timers
    } else {
        format!(" timers {timers}")
    };
    world.print(&format!("{name}/{number}: {}{timers}", counts.join(" ")));
    Ok(())
}

fn dead_letters(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let (topic, partition) = place(args.next_pos().ok_or("TOPIC/PARTITION?")?)?;
    args.reject_next()?;
    let (log, _) = world.broker.state().log(&topic, partition).ok_or("no such partition")?;
    let all = LogRead {
        log,
        from: 0,
        until: i64::MAX,
        bytes_max: usize::MAX,
    };
    let records = world.store.read(&all).map_err(|_| "gone")?;
    for batch in batches(&records) {
        for record in batch?.payload(usize::MAX)?.records() {
            let record = record?;
            let mut line = format!(
                "{}: {}",
                record.offset,
                String::from_utf8_lossy(record.value.unwrap_or_default())
            );
            for header in record.headers {
                let value = String::from_utf8_lossy(header.value.unwrap_or_default());
                write!(line, " {}={value}", String::from_utf8_lossy(header.key))?;
            }
            world.print(&line);
        }
    }
    Ok(())
}
