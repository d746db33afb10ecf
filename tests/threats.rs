//! Threats, each with at least one test whose name begins with its number. The tables in `docs/security.md` are written from
//! here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::harness::tools::repository;
use crate::reference::hold;

/// Number of a threat, the action of a client, and the corresponding requirement of OWASP's ASVS 5.0.
type Threat = (&'static str, &'static str, &'static str);

const REQUESTS: [Threat; 28] = [
    ("B1", "Sends what is no JSON, in any encoding", ""),
    (
        "B2",
        "Says a member twice, so that two readers see two values",
        "",
    ),
    (
        "B3",
        "Adds members that the operation does not take, such as a role",
        "15.3.3",
    ),
    (
        "B4",
        "Sends numbers, lists and objects where texts belong",
        "15.3.5",
    ),
    ("B5", "Has the service repeat a password in an error", ""),
    ("B6", "Sends a body without end, announced or in chunks", ""),
    ("B7", "Sends a body where none belongs", ""),
    (
        "B8",
        "Sends another kind of content, as forms of other sites can",
        "",
    ),
    ("B9", "Asks for HTML and has it made of what was sent", ""),
    ("B10", "Nests a million levels deep", ""),
    ("B11", "Sends nothing, or an empty something", ""),
    ("B12", "Tries every method on every path", "4.1.4"),
    ("B13", "Sends thousands of headers, or huge ones", ""),
    ("B14", "Sends a token of a megabyte", ""),
    ("B15", "Asks for an address of a hundred kilobytes", ""),
    (
        "B16",
        "Sends a head by the byte, on thousands of connections",
        "",
    ),
    ("B17", "Sends a body by the byte", ""),
    ("B18", "Opens connections and does nothing with them", ""),
    (
        "B19",
        "Hides one request in another, for a proxy to overlook",
        "4.2.1",
    ),
    ("B20", "Names no host, or two", ""),
    ("B21", "Resets streams of HTTP/2 by the thousand", ""),
    ("B22", "Goes on with frames of HTTP/2 for ever", ""),
    ("B23", "Writes lines of its own into the log", "16.4.1"),
    ("B24", "Writes headers of its own into an answer", ""),
    ("B25", "Finds an answer with a token in a cache", "14.3.2"),
    ("B26", "Has a page of another site read answers", ""),
    (
        "B27",
        "Makes the service panic, and reads what it says then",
        "",
    ),
    (
        "B28",
        "Finds an answer that the documentation does not know",
        "",
    ),
];

const NAMES: [Threat; 16] = [
    ("U1", "Registers a name that looks like another's", ""),
    (
        "U2",
        "Registers a name that is another's, composed differently",
        "",
    ),
    ("U3", "Registers a name with invisible characters", ""),
    (
        "U4",
        "Registers a name that is a command or a key of Redis",
        "",
    ),
    ("U5", "Chooses by its name the shard where it lies", ""),
    ("U6", "Logs in with the first 72 bytes of a password", ""),
    ("U7", "Has a long password of wide characters cut", "6.2.9"),
    (
        "U8",
        "Logs in with what bcrypt takes for the same: a NUL, a repetition",
        "",
    ),
    ("U9", "Has a password of a megabyte hashed", ""),
    (
        "U10",
        "Logs in without the spaces or the capitals of a password",
        "6.2.8",
    ),
    ("U11", "Cannot log in from another keyboard", ""),
    ("U12", "Guesses the passwords that people choose", "6.2.4"),
    ("U13", "Is told which characters passwords have", "6.2.5"),
    ("U14", "Guesses short passwords", "6.2.1"),
    ("U15", "Has a stored hash that costs an hour", ""),
    (
        "U16",
        "Undoes a new password by having the old one hashed anew",
        "",
    ),
];

const TOKENS: [Threat; 27] = [
    ("T1", "Says that its token needs no signature", "9.1.2"),
    (
        "T2",
        "Signs with a public key as if it were a secret",
        "9.1.2",
    ),
    (
        "T3",
        "Chooses another algorithm of the same family",
        "9.1.2",
    ),
    (
        "T4",
        "Names a key that is a file, a query, or no key at all",
        "9.1.3",
    ),
    (
        "T5",
        "Brings its own key, or says where to fetch it",
        "9.1.3",
    ),
    ("T6", "Demands an extension that is not known here", ""),
    ("T7", "Leaves a claim out", "9.2.1"),
    ("T8", "Writes a claim in another type", "9.2.1"),
    (
        "T9",
        "Has a token that begins tomorrow or never ends",
        "9.2.1",
    ),
    ("T10", "Uses a token that has expired", "9.2.1"),
    (
        "T11",
        "Uses a token of another issuer, audience or kind",
        "9.2.3",
    ),
    (
        "T12",
        "Uses a refresh token for an access token, or the reverse",
        "9.2.2",
    ),
    ("T13", "Says a claim twice", ""),
    (
        "T14",
        "Writes the same token differently, to outlive its logout",
        "",
    ),
    ("T15", "Changes a byte, or cuts something off", "9.1.1"),
    ("T16", "Leaves the signature out, or adds parts", "9.1.1"),
    (
        "T17",
        "Sends two tokens, for a proxy and for the service",
        "",
    ),
    (
        "T18",
        "Sends a token where logs keep it: in the address, in a form",
        "14.2.1",
    ),
    ("T19", "Writes the scheme in unusual letters", ""),
    (
        "T20",
        "Goes on with the token of an account that was disabled, deleted or has lost a role",
        "7.4.2",
    ),
    (
        "T21",
        "Has forged tokens cost the service work in Redis",
        "",
    ),
    ("T22", "Trades a stolen refresh token", "10.4.5"),
    (
        "T23",
        "Trades the parent of the parent within the grace",
        "10.4.5",
    ),
    ("T24", "Stays logged in for ever", "7.3.2, 10.4.8"),
    (
        "T25",
        "Reads the backup of Redis and logs in with what it finds",
        "",
    ),
    ("T26", "Uses a token of the test system", "9.2.3"),
    (
        "T27",
        "Presents published vectors, and signatures that careless verifiers take",
        "",
    ),
];

const MOMENTS: [Threat; 16] = [
    (
        "C1",
        "Registers a name at the same instant as another client",
        "",
    ),
    ("C2", "Trades a refresh token in fifty tabs at once", ""),
    ("C3", "Loses the answer to a refresh", ""),
    ("C4", "Refreshes while it logs out", "7.4.1"),
    ("C5", "Asks another replica right after the logout", "7.4.1"),
    (
        "C6",
        "Trades the parent within the grace after the logout",
        "7.4.1",
    ),
    (
        "C7",
        "Logs in with the old password while it is changed",
        "7.4.3",
    ),
    ("C8", "Refreshes while the password is changed", "7.4.3"),
    (
        "C9",
        "Comes back through a deleted account into that of a stranger",
        "",
    ),
    ("C10", "Guesses a hundred times in one instant", ""),
    ("C11", "Asks another replica, which has not counted", ""),
    (
        "C12",
        "Hangs up in the middle, and leaves its answer to another client",
        "",
    ),
    ("C13", "Says everything twice, as balancers do", ""),
    ("C14", "Asks when Redis has forgotten the scripts", ""),
    (
        "C15",
        "Finds an order of answers that one server could not have given",
        "",
    ),
    ("C16", "Asks while keys are changed", ""),
];

/// A2, a number of failures after which an account is held until an administrator helps, is left out on purpose: any client
/// could lock any user out.
const ABUSE: [Threat; 20] = [
    (
        "A1",
        "Guesses the password of one account, from many places",
        "6.3.1",
    ),
    ("A3", "Locks a user out by failing under that name", "6.1.1"),
    ("A4", "Tries stolen pairs on many accounts", "6.3.1"),
    ("A5", "Has as many tries as there are replicas", "6.3.1"),
    ("A6", "Says that it comes from elsewhere", ""),
    ("A7", "Comes from every address of its own network", ""),
    ("A8", "Comes through a proxy that does not say for whom", ""),
    ("A9", "Fills Redis with the counters of its tries", ""),
    (
        "A10",
        "Learns from an answer whether there is such a user",
        "6.3.8",
    ),
    (
        "A11",
        "Learns it from the time that the answer takes",
        "6.3.8",
    ),
    ("A12", "Learns it from the cost of the stored hash", "6.3.8"),
    ("A13", "Learns it by registering", "6.3.8"),
    ("A14", "Learns it from the limit", "6.3.8"),
    (
        "A15",
        "Has so many passwords hashed that no other client is served",
        "15.2.2",
    ),
    ("A16", "Registers without end", ""),
    ("A17", "Logs in without end", "7.1.2"),
    ("A18", "Fills the log in an outage", ""),
    ("A19", "Fills the metrics with paths of its own", ""),
    (
        "A20",
        "Reads metrics, probes or the documentation from outside",
        "13.4.5",
    ),
    (
        "A21",
        "Guesses where no limit counts: at another question for the password",
        "6.3.1",
    ),
];

const FAULTS: [Threat; 27] = [
    ("I1", "Redis is not there when replicas start", ""),
    ("I2", "Redis is killed under load", ""),
    ("I3", "Redis answers nothing, and connections stay open", ""),
    ("I4", "Redis stands still for seconds", ""),
    ("I5", "The network to Redis is slow and uneven", ""),
    ("I6", "A primary is made a replica", ""),
    ("I7", "A primary that was paused and replaced goes on", ""),
    ("I8", "Redis is full", "16.5.2"),
    ("I9", "Redis is told to evict", ""),
    ("I10", "Redis comes back empty", ""),
    ("I11", "The end of the append-only file is lost", ""),
    ("I12", "The disk of Redis is full", ""),
    (
        "I13",
        "More is asked at once than there are connections",
        "13.2.6",
    ),
    ("I14", "Sentinel replaces the primary", ""),
    ("I15", "Slots of a Cluster move", ""),
    ("I16", "A primary of a Cluster is lost", ""),
    ("I17", "Replicas are restarted in turn", ""),
    ("I18", "A replica is killed", ""),
    ("I19", "A replica hangs", ""),
    ("I20", "The clocks of replicas are off", ""),
    ("I21", "The clock of a replica jumps", ""),
    ("I22", "A replica has no file descriptors left", "13.1.2"),
    ("I23", "The receiver of traces is slow or absent", "16.5.2"),
    ("I24", "The name of Redis is not found", ""),
    ("I25", "Twenty replicas reconnect at once", ""),
    ("I26", "The password of Redis is changed", "16.5.3"),
    ("I27", "The certificate of Redis is not good", "12.3.1"),
];

#[test]
fn every_threat_has_a_test_that_cites_it() {
    let tests = cited();
    let mut table = String::new();
    for (title, who, threats) in [
        ("Requests", "a client …", &REQUESTS[..]),
        ("Names and passwords", "a client …", &NAMES),
        ("Tokens", "a client …", &TOKENS),
        ("Moments", "a client …", &MOMENTS),
        ("Abuse", "a client …", &ABUSE),
        ("Faults", "fault", &FAULTS),
    ] {
        write!(
            table,
            "\n### {title}\n\n| number | {who} | ASVS | tests |\n|---|---|---|---|\n"
        )
        .unwrap();
        for (number, threat, asvs) in threats {
            let of = tests.get(&number.to_lowercase());
            let of = of.unwrap_or_else(|| panic!("{number} has no test"));
            let of: Vec<_> = of.iter().map(|test| format!("`{test}`")).collect();
            // The action of a client continues the sentence in the head of the column; a fault is a sentence of its own.
            let (first, rest) = threat.split_at(1);
            let (lower, of) = (first.to_lowercase(), of.join("<br>"));
            let first = if number.starts_with('I') {
                first
            } else {
                &lower
            };
            writeln!(table, "| {number} | {first}{rest} | {asvs} | {of} |").unwrap();
        }
    }
    table.push('\n');
    hold("docs/security.md", "threats", &table);
}

/// Tests that cite each number.
fn cited() -> BTreeMap<String, Vec<String>> {
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut folders = vec![repository("tests"), repository("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                read(&path, &mut tests);
            }
        }
    }
    for of in tests.values_mut() {
        of.sort_unstable();
    }
    tests
}

fn read(file: &Path, tests: &mut BTreeMap<String, Vec<String>>) {
    let text = std::fs::read_to_string(file).unwrap();
    let module = file.file_stem().unwrap().to_str().unwrap();
    let lines: Vec<_> = text.lines().collect();
    for pair in lines.windows(2) {
        let is_test = pair[0].trim_start().starts_with("#[tokio::test")
            || pair[0].trim() == "#[test]"
            // An `#[expect(…)]` attribute may stand between the two.
            || pair[0].trim() == ")]";
        let line = pair[1].trim();
        let line = line.strip_prefix("async ").unwrap_or(line);
        let Some(name) = line.strip_prefix("fn ").filter(|_| is_test) else {
            continue;
        };
        let name = name.split('(').next().unwrap();
        let is_number = |part: &&str| {
            let digits = part.strip_prefix(['a', 'b', 'c', 'i', 't', 'u']);
            digits.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
        };
        for number in name.split('_').take_while(is_number) {
            let of = tests.entry(number.to_owned()).or_default();
            of.push(format!("{module}::{name}"));
        }
    }
}
