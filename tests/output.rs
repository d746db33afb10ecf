//! Log output: a reader that is slow, stuck or gone and a full disk stop no request, no shutdown and no command. The log
//! reports the number of lines that could not be written.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, PipeReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::harness::process::{PATIENCE, folder, parsed, program};
use crate::harness::program::Desk;
use crate::harness::{
    Anonymous, PASSWORD, Redis, SECRET as KEY, User, free_port, patiently, rounds,
};

const SECRET: (&str, &str) = ("JWT_SECRET", KEY);
/// Capacity of an empty pipe, in bytes.
const PIPE_CAPACITY: usize = 65_536;
const CLIENTS: usize = 16;

/// Replica whose standard output the test may read or leave unread.
struct Replica {
    child: Child,
    pid: Pid,
    anyone: Anonymous,
    probes: Anonymous,
}

impl Replica {
    async fn start(command: impl FnOnce(&[(&str, &str)]) -> Command, redis: &Redis) -> Self {
        let (listen, management) = (free_port(), free_port());
        let (listen, management) = (
            format!("127.0.0.1:{listen}"),
            format!("127.0.0.1:{management}"),
        );
        let url = redis.url();
        let mut child = command(&[
            ("LISTEN", &listen),
            ("MANAGEMENT_LISTEN", &management),
            ("REDIS_URL", &url),
            ("BCRYPT_COST", "4"),
            ("DRAIN_DELAY", "0s"),
            ("HASH_DEADLINE", "1m"),
            ("RATE_LIMIT", "off"),
            SECRET,
        ])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
        let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        let replica = Self {
            pid,
            anyone: Anonymous::at(listen.parse().unwrap()),
            probes: Anonymous::at(management.parse().unwrap()),
            child: {
                // The few lines on standard error must not fill a pipe of their own.
                let mut errors = child.stderr.take().unwrap();
                tokio::spawn(async move {
                    tokio::io::copy(&mut errors, &mut tokio::io::sink())
                        .await
                        .ok()
                });
                child
            },
        };
        let probes = replica.probes.clone();
        wait("it is ready", async || {
            probes
                .try_get("/readyz")
                .await
                .is_ok_and(|it| it.status == 200)
        })
        .await;
        replica
    }

    /// Sends wrong logins of many clients at once. Each must be answered.
    async fn wrong_logins(&self, each: usize) -> u64 {
        let clients = (0..CLIENTS).map(async |client| {
            let name = format!("nobody-{client}");
            for _ in 0..each {
                // On a busy machine Redis may answer too late.
                let login = async || self.anyone.login(&name, "a wrong password").await;
                let answer = in_time(patiently(login)).await;
                assert_eq!(answer.status, 401, "{answer:?}");
            }
        });
        join_all(clients).await;
        (CLIENTS * each) as u64
    }

    /// Sends logins for one name, of which nearly all are refused without a hash: these produce audit lines at the lowest cost,
    /// each as long as possible. Returns the number of logins that produced such a line.
    async fn guesses(&self, each: usize) -> u64 {
        let (id, body) = ("i".repeat(64), json!({"username": "root", "password": "?"}));
        let headers = [("content-type", "application/json"), ("x-request-id", &id)];
        let body = body.to_string();
        let clients = (0..CLIENTS).map(async |_| {
            let mut noted = 0;
            for _ in 0..each {
                let guess = self.anyone.send("POST", "/login", &headers, Some(&body));
                noted += u64::from([401, 429].contains(&in_time(guess).await.status));
            }
            noted
        });
        join_all(clients).await.into_iter().sum()
    }

    /// Sum of all series whose name and labels contain all of these.
    async fn metric(&self, parts: &[&str]) -> u64 {
        let text = in_time(self.probes.get("/metrics")).await.body;
        let series = text.lines().filter(|line| !line.starts_with('#'));
        series
            .filter(|line| parts.iter().all(|part| line.contains(part)))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    async fn dropped(&self, kind: &str) -> u64 {
        let kind = format!("kind=\"{kind}\"");
        self.metric(&["portcullis_log_lines_dropped_total", &kind])
            .await
    }

    async fn failures(&self, output: &str) -> u64 {
        let output = format!("output=\"{output}\"");
        self.metric(&["portcullis_log_write_failures_total", &output])
            .await
    }

    async fn serves(&self, user: &User) {
        let dashboard = in_time(self.anyone.dashboard(&user.token)).await;
        assert_eq!(dashboard.status, 200);
        assert_eq!(in_time(self.probes.get("/livez")).await.status, 200);
        assert_eq!(in_time(self.probes.get("/readyz")).await.status, 200);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        in_time(self.child.wait()).await.unwrap()
    }

    async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("it is not answered")
}

async fn wait(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

/// Creates a pipe that is full until the test reads it.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&vec![b'\n'; PIPE_CAPACITY]).unwrap();
    (reader, writer.into())
}

/// Reads a pipe to its end, in a thread; each line that is not empty comes through the channel.
fn read_lines(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let line = line.unwrap();
            if !line.is_empty() && sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Collects lines until a line of that event comes.
fn lines_until(lines: &mpsc::Receiver<String>, event: &str) -> Vec<Value> {
    let mut found = Vec::new();
    loop {
        let line = lines
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("{event} does not come; {} lines", found.len()));
        found.push(parsed(&line));
        if found.last().unwrap()["event"] == event {
            return found;
        }
    }
}

/// Lines of a file, each of which must be whole.
fn lines_of(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line");
    text.lines().map(parsed).collect()
}

fn count(lines: &[Value], event: &str) -> u64 {
    lines.iter().filter(|line| line["event"] == event).count() as u64
}

/// Command that runs the program on a disk of 64 KiB, mounted at `disk` in its folder, in a mount namespace that ends with it.
fn on_small_disk(folder: &Path, variables: &[(&str, &str)], then: &str) -> Command {
    let script = format!("mount -t tmpfs -o size=64k none disk && exec {then}");
    fs::create_dir(folder.join("disk")).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    command
}

/// Path of that disk, seen from outside.
struct Disk(PathBuf);

impl Disk {
    fn of(replica: &Replica, folder: &Path) -> Self {
        let folder = fs::canonicalize(folder).unwrap();
        let folder = folder.strip_prefix("/").unwrap();
        let root = PathBuf::from(format!("/proc/{}/root", replica.pid.as_raw_nonzero()));
        Self(root.join(folder).join("disk"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Fills the disk.
    fn fill(&self) {
        let mut filler = File::create(self.file("filler")).unwrap();
        for piece in [4096, 1] {
            loop {
                match filler.write_all(&vec![0; piece]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.file("filler")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_is_not_read_stops_no_request_and_what_was_dropped_is_told() {
    let (folder, mut redis) = (folder(), Redis::start().await);
    let (reader, stdout) = full_pipe();
    let start = |variables: &[(&str, &str)]| {
        let mut command = program(folder.path(), variables);
        command
            .env("RATE_LIMIT", "on")
            .env("RATE_LIMIT_ACCOUNT", "5@24h")
            .env("RATE_LIMIT_NETWORK", "1000000@1ms");
        command.arg("serve").stdout(stdout);
        command
    };
    let mut replica = Replica::start(start, &redis).await;
    let user = User::register_at(&replica.anyone, "alice").await;
    let mut logins = replica.wrong_logins(5).await;
    replica.serves(&user).await;
    // These produce lines in the queue that are no audit lines: of failed requests, and of the feed.
    redis.kill();
    for _ in 0..20 {
        let failed = in_time(replica.anyone.login("nobody", "a wrong password")).await;
        assert_eq!(failed.status, 503, "{failed:?}");
    }
    redis.start_again().await;
    let (probes, anyone) = (&replica.probes, &replica.anyone);
    wait("it serves again", async || {
        anyone.dashboard(&user.token).await.status == 200
            && probes.get("/readyz").await.status == 200
    })
    .await;
    while replica.dropped("audit").await == 0 {
        logins += replica.guesses(20).await;
    }
    replica.serves(&user).await;
    let (other, audit) = (
        replica.dropped("other").await,
        replica.dropped("audit").await,
    );
    println!("{logins} refused logins; dropped: {audit} audit lines, {other} others");
    assert!(other > 0, "audit lines are dropped last");

    // The test reads the pipe again.
    let lines = read_lines(reader);
    let mut log = lines_until(&lines, "log_lines_dropped");
    let told = log.pop().unwrap();
    assert_eq!(told["output"], "standard_output");
    assert_eq!(told["dropped_audit"], audit);
    assert_eq!(told["dropped"], audit + other);
    assert_eq!(count(&log, "request"), 0, "other lines made way");
    assert!(replica.stop().await.success());
    log.extend(lines.iter().map(|line| parsed(&line)));
    assert_eq!(count(&log, "log_lines_dropped"), 0, "it is told once");
    assert_eq!(count(&log, "stopped"), 1);
    let refused = log
        .iter()
        .filter(|line| line["outcome"] == "refused" || line["outcome"] == "throttled");
    assert_eq!(refused.count() as u64 + audit, logins);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_is_never_read_or_closed_holds_up_no_shutdown() {
    let (folder, redis) = (folder(), Redis::start().await);
    for is_closed in [false, true] {
        for second in [None, Some(Signal::TERM)] {
            let (reader, stdout) = full_pipe();
            let start = |variables: &[(&str, &str)]| {
                let mut command = program(folder.path(), variables);
                if second.is_some() {
                    command.env("DRAIN_DELAY", "5m");
                }
                command.arg("serve").stdout(stdout);
                command
            };
            let mut replica = Replica::start(start, &redis).await;
            let reader = (!is_closed).then_some(reader);
            replica.wrong_logins(5).await;
            let code = match second {
                None => replica.stop().await.code(),
                Some(second) => {
                    replica.signal(Signal::TERM);
                    let probes = replica.probes.clone();
                    wait("it drains", async || {
                        probes.get("/readyz").await.status == 503
                    })
                    .await;
                    replica.signal(second);
                    replica.ended().await.code()
                }
            };
            let expected = if second.is_some() { 143 } else { 0 };
            assert_eq!(code, Some(expected), "closed: {is_closed}");
            drop(reader);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_counted_and_costs_no_request() {
    let (folder, redis) = (folder(), Redis::start().await);
    let (reader, stdout) = full_pipe();
    drop(reader);
    let start = |variables: &[(&str, &str)]| {
        let mut command = program(folder.path(), variables);
        command.arg("serve").stdout(stdout);
        command
    };
    let mut replica = Replica::start(start, &redis).await;
    let user = User::register_at(&replica.anyone, "alice").await;
    replica.wrong_logins(5).await;
    replica.serves(&user).await;
    wait("a failure is counted", async || {
        replica.failures("standard_output").await > 0
    })
    .await;
    assert!(replica.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_costs_no_login_and_no_line() {
    let (reader, stdout) = full_pipe();
    costs_no_login_and_no_line(reader, stdout, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_a_non_blocking_pipe_costs_no_login_and_no_line() {
    let (mut writer, reader) = pipe::pipe().unwrap();
    writer.write_all(&vec![b'\n'; PIPE_CAPACITY]).await.unwrap();
    let reader = File::from(reader.into_blocking_fd().unwrap());
    let stdout = writer.into_nonblocking_fd().unwrap().into();
    costs_no_login_and_no_line(reader, stdout, rounds(10, 50)).await;
}

async fn costs_no_login_and_no_line(
    mut reader: impl Read + Send + 'static,
    stdout: Stdio,
    each: usize,
) {
    let (folder, redis) = (folder(), Redis::start().await);
    let start = |variables: &[(&str, &str)]| {
        let mut command = program(folder.path(), variables);
        command.arg("serve").stdout(stdout);
        command
    };
    let mut replica = Replica::start(start, &redis).await;
    let user = User::register_at(&replica.anyone, "alice").await;
    // The reader takes a tenth of the bytes that the logins write.
    let (slow, stop) = mpsc::channel::<()>();
    let reading = std::thread::spawn(move || {
        let (mut piece, mut read) = ([0; 1024], Vec::new());
        while stop.recv_timeout(Duration::from_millis(50)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let length = reader.read(&mut piece).unwrap();
            read.extend(&piece[..length]);
        }
        reader.read_to_end(&mut read).unwrap();
        read
    });
    // A user gets no more than the greatest number of sessions: one more would end another.
    let clients = (0..CLIENTS).map(async |client| {
        for number in 0..each {
            let name = format!("user-{client}-{}", number / 20);
            if number % 20 == 0 {
                let register = async || replica.anyone.register(&name, PASSWORD).await;
                let registered = in_time(patiently(register)).await;
                assert_eq!(registered.status, 201, "{registered:?}");
            }
            let login = async || replica.anyone.login(&name, PASSWORD).await;
            let answer = in_time(patiently(login)).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    });
    join_all(clients).await;
    replica.serves(&user).await;
    drop(slow);
    assert!(replica.stop().await.success());
    let read = String::from_utf8(reading.join().unwrap()).unwrap();
    let lines = read.lines().filter(|line| !line.is_empty());
    let log: Vec<_> = lines.map(parsed).collect();
    let logins = log.iter().filter(|line| line["outcome"] == "succeeded");
    // The registration of the user ends with a login.
    assert_eq!(logins.count(), CLIENTS * each + 1);
    assert_eq!(count(&log, "log_lines_dropped"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_standard_output_loses_no_line_that_has_room_in_the_queue() {
    let (folder, redis) = (folder(), Redis::start().await);
    let start = |variables: &[(&str, &str)]| {
        on_small_disk(folder.path(), variables, r#""$0" serve >>disk/out.log"#)
    };
    let mut replica = Replica::start(start, &redis).await;
    let disk = Disk::of(&replica, folder.path());
    let mut logins = replica.wrong_logins(2).await;
    disk.fill();
    while replica.failures("standard_output").await == 0 {
        logins += replica.wrong_logins(1).await;
    }
    logins += replica.wrong_logins(2).await;
    disk.make_room();
    let out = disk.file("out.log");
    wait("it goes on", async || {
        let text = fs::read_to_string(&out).unwrap();
        text.contains("log_write_recovered")
    })
    .await;
    replica.wrong_logins(1).await;
    logins += CLIENTS as u64;
    wait("all is written", async || {
        let text = fs::read_to_string(&out).unwrap();
        text.matches("\"event\":\"audit\"").count() as u64 == logins
    })
    .await;
    let log = lines_of(&out);
    assert_eq!(count(&log, "audit"), logins);
    assert_eq!(count(&log, "log_write_failed"), 1);
    assert_eq!(count(&log, "log_write_recovered"), 1);
    assert_eq!(count(&log, "log_lines_dropped"), 0);
    assert!(replica.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_audit_log_is_told_and_loses_no_event() {
    let (folder, redis) = (folder(), Redis::start().await);
    let start = |variables: &[(&str, &str)]| {
        let mut command = on_small_disk(folder.path(), variables, r#""$0" serve"#);
        command
            .env("AUDIT_LOG", "disk/audit.log")
            .stdout(Stdio::piped());
        command
    };
    let mut replica = Replica::start(start, &redis).await;
    let stdout = replica.child.stdout.take().unwrap();
    let lines = read_lines(File::from(stdout.into_owned_fd().unwrap()));
    let disk = Disk::of(&replica, folder.path());
    let mut logins = replica.wrong_logins(2).await;
    disk.fill();
    while replica.failures("audit_log").await == 0 {
        logins += replica.wrong_logins(1).await;
    }
    let told = lines_until(&lines, "log_write_failed");
    assert_eq!(told.last().unwrap()["output"], "audit_log");
    logins += replica.wrong_logins(2).await;
    disk.make_room();
    lines_until(&lines, "log_write_recovered");
    let audit = disk.file("audit.log");
    wait("all is written", async || {
        let text = fs::read_to_string(&audit).unwrap();
        text.matches('\n').count() as u64 == logins
    })
    .await;
    assert_eq!(count(&lines_of(&audit), "audit"), logins);
    assert!(replica.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_has_every_event_whatever_standard_output_takes_and_through_a_rotation() {
    let (folder, redis) = (folder(), Redis::start().await);
    let (reader, stdout) = full_pipe();
    let path = folder.path().join("audit.log");
    let start = |variables: &[(&str, &str)]| {
        let mut command = program(folder.path(), variables);
        let command_ = command.env("AUDIT_LOG", &path).env("LOG_FILTER", "error");
        command_
            .env("LOG_FORMAT", "text")
            .arg("serve")
            .stdout(stdout);
        command
    };
    let mut replica = Replica::start(start, &redis).await;
    let first = replica.wrong_logins(15).await;
    let rotated = folder.path().join("audit.log.1");
    fs::rename(&path, &rotated).unwrap();
    let second = replica.wrong_logins(15).await;
    // A command writes to the same file.
    let url = redis.url();
    let command = program(folder.path(), &[("REDIS_URL", &url), SECRET])
        .env("AUDIT_LOG", &path)
        .args(["user", "disable", "nobody"])
        .output();
    assert_eq!(command.await.unwrap().status.code(), Some(1));
    assert!(replica.stop().await.success());
    drop(reader);
    let (old, new) = (lines_of(&rotated), lines_of(&path));
    assert_eq!(
        count(&old, "audit") + count(&new, "audit"),
        first + second + 1
    );
    assert!(old.iter().chain(&new).all(|line| line["event"] == "audit"));
    // The requests after the rotation are logged in the new file.
    assert!(count(&new, "audit") > second);
    assert_eq!(new.last().unwrap()["by"], "operator");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_log_that_cannot_be_opened_is_a_mistake_in_the_settings() {
    let (desk, redis) = (Desk::new(), Redis::start().await);
    let url = redis.url();
    let nowhere = desk.path().join("none/audit.log");
    for audit_log in [nowhere.to_str().unwrap(), "/dev/full"] {
        let variables = [
            ("REDIS_URL", url.as_str()),
            SECRET,
            ("AUDIT_LOG", audit_log),
        ];
        for arguments in [&["serve"][..], &["user", "disable", "alice"]] {
            let ran = desk.run(arguments, &variables).await;
            assert_eq!(ran.mistakes(), ["AUDIT_LOG"], "{arguments:?}");
        }
        let ran = desk.check(&variables).await;
        assert_eq!(ran.code, 69, "{ran:?}");
        assert!(ran.out.contains("audit log     FAILED"), "{ran:?}");
    }
    let good = desk.path().join("audit.log");
    let variables = [
        ("REDIS_URL", url.as_str()),
        SECRET,
        ("AUDIT_LOG", good.to_str().unwrap()),
    ];
    assert_eq!(desk.check(&variables).await.code, 0);
    assert!(!good.exists(), "a check leaves nothing behind");
}

/// Exit code of a command that runs with these outputs.
async fn exit_code(
    desk: &Desk,
    redis: &Redis,
    arguments: &[&str],
    stdout: Stdio,
    stderr: Stdio,
) -> Option<i32> {
    let url = redis.url();
    let keys = desk.path().join("keys");
    let variables = [
        ("REDIS_URL", url.as_str()),
        ("JWT_KEYS_DIR", keys.to_str().unwrap()),
        ("BCRYPT_COST", "4"),
        SECRET,
    ];
    let input = desk.file("password", format!("{PASSWORD}\n"));
    let mut command = desk.command(arguments, &variables);
    let command = command.stdin(File::open(input).unwrap());
    let mut child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
    in_time(child.wait()).await.unwrap().code()
}

fn closed_pipe() -> Stdio {
    let (_, writer) = std::io::pipe().unwrap();
    writer.into()
}

fn full_disk() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_errors_cannot_be_written_does_what_it_was_asked_to() {
    let (desk, redis) = (Desk::new(), Redis::start().await);
    let (reader, stuck) = full_pipe();
    for (number, errors) in [stuck, closed_pipe(), full_disk()].into_iter().enumerate() {
        let name = format!("user{number}");
        let made = exit_code(
            &desk,
            &redis,
            &["user", "create", &name],
            Stdio::null(),
            errors,
        )
        .await;
        assert_eq!(made, Some(0), "{number}");
        let shown = exit_code(
            &desk,
            &redis,
            &["user", "show", &name],
            Stdio::null(),
            Stdio::null(),
        )
        .await;
        assert_eq!(shown, Some(0), "{name} is there");
    }
    drop(reader);
    let accounts = desk.file("accounts", "not JSON\n".repeat(3000));
    let (reader, stuck) = full_pipe();
    for errors in [stuck, closed_pipe(), full_disk()] {
        let arguments = ["user", "import", accounts.as_str()];
        let code = exit_code(&desk, &redis, &arguments, Stdio::null(), errors).await;
        assert_eq!(code, Some(1));
    }
    drop(reader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_output_cannot_be_written_says_so_by_its_exit_code() {
    let (desk, redis) = (Desk::new(), Redis::start().await);
    for (number, closes) in [true, false].into_iter().enumerate() {
        let output = || if closes { closed_pipe() } else { full_disk() };
        let name = format!("user{number}");
        for arguments in [
            &["keys", "generate"][..],
            &["user", "create", &name],
            &["user", "list"],
            &["openapi"],
            &["--help"],
        ] {
            fs::remove_dir_all(desk.path().join("keys")).ok();
            let code = exit_code(&desk, &redis, arguments, output(), output()).await;
            assert_eq!(code, Some(74), "{arguments:?}");
        }
        // The user was created, although the command could not print it.
        let shown = exit_code(
            &desk,
            &redis,
            &["user", "show", &name],
            Stdio::null(),
            Stdio::null(),
        )
        .await;
        assert_eq!(shown, Some(0));
    }
    let (reader, stuck) = full_pipe();
    let made = exit_code(
        &desk,
        &redis,
        &["user", "create", "late"],
        stuck,
        full_disk(),
    )
    .await;
    assert_eq!(made, Some(74));
    drop(reader);
    for arguments in [&["frobnicate"][..], &["serve", "--bcrypt-cost", "99"]] {
        for errors in [closed_pipe(), full_disk()] {
            let code = exit_code(&desk, &redis, arguments, Stdio::null(), errors).await;
            assert_eq!(code, Some(64));
        }
    }
}
