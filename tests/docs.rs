//! Documentation: every link, anchor, path, `make` target, command, option, setting and metric that a page names exists, and
//! its sentences name their actors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use portcullis::telemetry::NAMES;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::harness::tools::repository;
use crate::reference::files;

/// Maximum length of the README. Every further answer is a page in `docs/`.
const MAX_README_LINES: usize = 250;

/// Pages outside `docs/`.
const OTHER_PAGES: [&str; 4] = [
    "README.md",
    "CONTRIBUTING.md",
    "k8s/README.md",
    "deploy/load/README.md",
];

/// Names in capitals that are no settings, and the file that reads or defines each.
const OTHER_NAMES: [(&str, &str); 12] = [
    ("BASE", "Makefile"),
    ("KUBECONFIG", "tests/kubernetes/trial.sh"),
    ("DURATION", "deploy/load/soak.js"),
    ("ONLY", "Makefile"),
    ("REDISCLI_AUTH", "deploy/switchover.sh"),
    ("REPLICAS", "deploy/run/settings.sh"),
    ("SCRIPT", "Makefile"),
    ("NAMES", "src/telemetry/metrics.rs"),
    ("PATHS", "src/http/docs.rs"),
    ("PATIENCE", "k8s/components/redis-sentinel/start-redis.sh"),
    ("STRICT_OBJECTS", "src/http/docs.rs"),
    ("UPDATE_DOCS", "tests/reference.rs"),
];

/// Words in capitals of Redis, Envoy and JWTs.
const WORDS: [&str; 5] = [
    "BGREWRITEAOF",
    "ES256",
    "FLUSHALL",
    "REJECT_REQUEST",
    "RS256",
];

/// Endings of the files of this repository. A word with one of these names a file.
const ENDINGS: [&str; 14] = [
    "c", "cfg", "conf", "js", "json", "lua", "md", "mjs", "py", "rs", "sh", "toml", "yaml", "yml",
];

/// Words that hide the actor of a sentence.
const VAGUE: [&str; 4] = ["nobody", "whoever", "somebody", "everybody"];

/// Parts of a page that are checked.
#[derive(Default)]
struct Page {
    anchors: BTreeSet<String>,
    links: Vec<String>,
    /// Code within sentences.
    spans: Vec<String>,
    /// Lines of code blocks, with the language of the block.
    lines: Vec<(String, String)>,
}

impl Page {
    fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let mut headings: BTreeMap<String, usize> = BTreeMap::new();
        let (mut heading, mut block) = (None::<String>, None::<String>);
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let slug = slug(&heading.take().unwrap());
                    let seen = headings.entry(slug.clone()).or_default();
                    // GitHub numbers headings of the same text.
                    page.anchors.insert(if *seen == 0 {
                        slug
                    } else {
                        format!("{slug}-{seen}")
                    });
                    *seen += 1;
                }
                Event::Start(Tag::CodeBlock(kind)) => {
                    block = Some(match kind {
                        CodeBlockKind::Fenced(language) => language.into_string(),
                        CodeBlockKind::Indented => String::new(),
                    });
                }
                Event::End(TagEnd::CodeBlock) => block = None,
                Event::Code(code) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&code);
                    }
                    page.spans.push(code.into_string());
                }
                Event::Text(text) => {
                    if let Some(language) = &block {
                        let lines = text.lines();
                        let lines = lines.map(|line| (language.clone(), line.to_owned()));
                        page.lines.extend(lines);
                    } else if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    page.links
                        .extend(attributes(&html, &["src", "srcset", "href"]));
                    page.anchors.extend(attributes(&html, &["id", "name"]));
                }
                _ => {}
            }
        }
        page
    }

    /// Lines of shell commands, and the code within sentences.
    fn commands(&self) -> impl Iterator<Item = &str> {
        let lines = self.lines.iter().filter(|(language, line)| {
            // The other lines of a console are answers.
            language == "sh" || language == "console" && line.starts_with("$ ")
        });
        let lines = lines.map(|(_, line)| line.as_str());
        lines.chain(self.spans.iter().map(String::as_str))
    }

    /// Code that may name paths and settings: all but diagrams and examples of answers.
    fn code(&self) -> impl Iterator<Item = &str> {
        let lines = self.lines.iter();
        let lines = lines.filter(|(language, _)| !["mermaid", "json"].contains(&language.as_str()));
        let lines = lines.map(|(_, line)| line.as_str());
        lines.chain(self.spans.iter().map(String::as_str))
    }
}

/// Anchor that GitHub gives a heading.
fn slug(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept
        .chars()
        .filter(|it| it.is_alphanumeric() || " -_".contains(*it));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}

/// Values of attributes of HTML tags.
fn attributes(html: &str, names: &[&str]) -> Vec<String> {
    let mut values = Vec::new();
    if html.trim_start().starts_with("<!--") {
        return values;
    }
    for name in names {
        let mut rest = html;
        while let Some((_, value)) = rest.split_once(&format!(" {name}=\"")) {
            let (value, after) = value.split_once('"').unwrap();
            values.push(value.to_owned());
            rest = after;
        }
    }
    values
}

/// Names that the repository and the program define.
struct Tree {
    definition: clap::Command,
    settings: BTreeSet<String>,
    targets: BTreeSet<String>,
    file_names: BTreeSet<String>,
    metrics: BTreeSet<&'static str>,
}

impl Tree {
    fn read() -> Self {
        // Only `build` makes the settings options of every command.
        let mut definition = portcullis::cli::definition();
        definition.build();
        let mut settings = BTreeSet::new();
        for argument in definition.get_arguments() {
            let Some(variable) = argument.get_env() else {
                continue;
            };
            let variable = variable.to_str().unwrap();
            // A secret is a variable too, but its option takes only a file.
            settings.extend(variable.strip_suffix("_FILE").map(str::to_owned));
            settings.insert(variable.to_owned());
        }
        let makefile = std::fs::read_to_string(repository("Makefile")).unwrap();
        let targets = makefile.lines().filter_map(|line| {
            let (target, _) = line.split_once(':')?;
            is_word(target).then(|| target.to_owned())
        });
        let mut file_names = BTreeSet::new();
        for folder in ["src", "tests", "deploy", "k8s", "docs"] {
            for ending in ENDINGS {
                let files = files(folder, ending);
                let names = files.iter().map(|file| file.file_name().unwrap());
                file_names.extend(names.map(|name| name.to_str().unwrap().to_owned()));
            }
        }
        Self {
            definition,
            settings,
            targets: targets.collect(),
            file_names,
            metrics: NAMES.iter().map(|(name, _)| *name).collect(),
        }
    }

    /// Returns every name in a page that does not exist.
    fn faults(&self, path: &str, text: &str) -> Vec<String> {
        let page = Page::parse(text);
        let folder = Path::new(path).parent().unwrap();
        let mut faults = Vec::new();
        for link in &page.links {
            faults.extend(link_fault(path, &page, link));
        }
        for code in page.code() {
            for word in code.split_whitespace() {
                faults.extend(self.path_fault(folder, word));
            }
            faults.extend(self.name_faults(code));
        }
        for command in page.commands() {
            for command in simple_commands(command) {
                faults.extend(self.command_fault(&command));
            }
        }
        for span in &page.spans {
            if is_capitals(span) && !self.is_known(span) {
                faults.push(format!("{span} is no setting"));
            }
            if let Some(option) = span.strip_prefix("--") {
                let option = option.split(['=', ' ']).next().unwrap();
                if !has_option(&self.definition, option) {
                    faults.push(format!("no command has the option --{option}"));
                }
            }
        }
        faults
    }

    fn is_known(&self, name: &str) -> bool {
        self.settings.contains(name)
            || OTHER_NAMES.iter().any(|(other, _)| *other == name)
            || WORDS.contains(&name)
            // The telemetry SDK reads the standard variables itself.
            || name.starts_with("OTEL_")
    }

    /// Checks a word that looks like a path of this repository, from its root or from the folder of the page.
    fn path_fault(&self, folder: &Path, word: &str) -> Option<String> {
        let word = word.trim_matches(|it| "\"'(),;:`".contains(it));
        let word = word.trim_end_matches('.');
        if word.contains("://") || word.starts_with('/') || word.starts_with("target/") {
            return None;
        }
        if word.contains(|it| "…<>{}$*@=|".contains(it)) {
            return None;
        }
        let word = word.strip_prefix("./").unwrap_or(word);
        let is_there = |path: &str| {
            let from_root = repository(path).exists();
            from_root || repository(folder.to_str().unwrap()).join(path).exists()
        };
        let ending = Path::new(word).extension().and_then(|it| it.to_str());
        let is_file = ending.is_some_and(|ending| ENDINGS.contains(&ending));
        let looks_like_path = match word.split_once('/') {
            Some((first, _)) => is_file || is_there(first),
            None => is_file && !self.file_names.contains(word),
        };
        (looks_like_path && !is_there(word)).then(|| format!("the path {word} is not there"))
    }

    /// Checks the settings and metrics in a piece of code.
    fn name_faults(&self, code: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_';
        let mut rest = code;
        while let Some(start) = rest.find(is_part) {
            let word: &str = &rest[start..];
            let word = word.split(|it| !is_part(it)).next().unwrap();
            rest = &rest[start + word.len()..];
            let is_assigned = rest.starts_with('=') && is_capitals(word);
            let is_setting = word.contains('_') && is_capitals(word) || is_assigned;
            if is_setting && !self.is_known(word) {
                faults.push(format!("{word} is no setting"));
            }
            let of_metric = ["_bucket", "_count", "_sum"];
            let of_metric = of_metric.iter().find_map(|it| word.strip_suffix(it));
            let metric = of_metric.unwrap_or(word);
            let is_metric = word.starts_with("portcullis_") || word.starts_with("http_server_");
            if is_metric && !self.metrics.contains(metric) {
                faults.push(format!("{word} is no metric"));
            }
        }
        faults
    }

    /// Checks a `make` or `portcullis` command.
    fn command_fault(&self, words: &[&str]) -> Option<String> {
        let (program, arguments) = words.split_first()?;
        match *program {
            "make" => {
                let target = arguments
                    .iter()
                    .find(|it| !it.contains('=') && !it.starts_with('-'))?;
                let is_there = self.targets.contains(*target);
                (!is_there).then(|| format!("make has no target {target}"))
            }
            "portcullis" | "/portcullis" => {
                let mut command = &self.definition;
                for argument in arguments {
                    if let Some(option) = argument.strip_prefix("--") {
                        let option = option.split('=').next().unwrap();
                        let mut known = command.get_arguments();
                        if !known.any(|it| it.get_long() == Some(option)) {
                            return Some(format!("{} has no --{option}", words.join(" ")));
                        }
                    } else if command.has_subcommands() && is_word(argument) {
                        let Some(found) = command.find_subcommand(argument) else {
                            return Some(format!("there is no command {}", words.join(" ")));
                        };
                        command = found;
                    }
                }
                None
            }
            _ => None,
        }
    }
}

/// Returns true if one of the commands has an option of this name.
fn has_option(command: &clap::Command, option: &str) -> bool {
    let mut arguments = command.get_arguments();
    arguments.any(|it| it.get_long() == Some(option))
        || command.get_subcommands().any(|it| has_option(it, option))
}

/// Matches a word of lower case and hyphens: a command or a target.
fn is_word(text: &str) -> bool {
    text.starts_with(|it: char| it.is_ascii_lowercase())
        && text.chars().all(|it| it.is_ascii_lowercase() || it == '-')
}

/// Matches a name of at least three capitals, digits and underscores.
fn is_capitals(text: &str) -> bool {
    let is_part = |it: char| it.is_ascii_uppercase() || it.is_ascii_digit() || it == '_';
    text.len() >= 3
        && text.starts_with(|it: char| it.is_ascii_uppercase())
        && text.chars().all(is_part)
}

/// Splits a shell line into commands, without prompt, assignments and comment.
fn simple_commands(line: &str) -> Vec<Vec<&str>> {
    let mut commands = vec![Vec::new()];
    for word in line.split_whitespace() {
        if word.starts_with('#') {
            break;
        }
        let command = commands.last_mut().unwrap();
        let is_assignment = word.split_once('=').is_some_and(|(it, _)| is_capitals(it));
        match word {
            "&&" | "||" | "|" | ";" | "&" | "--" | "exec" | "do" | "{" => commands.push(Vec::new()),
            _ if command.is_empty() && (word == "$" || is_assignment) => {}
            _ => {
                command.push(word.trim_end_matches([';', ',', ')']));
                if word.ends_with(';') {
                    commands.push(Vec::new());
                }
            }
        }
    }
    commands
}

/// Checks a link to a file or anchor of this repository.
fn link_fault(path: &str, page: &Page, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let no_anchor = || format!("the anchor of the link {link} is not there");
    if file.is_empty() {
        return (!page.anchors.contains(anchor)).then(no_anchor);
    }
    let folder = Path::new(path).parent().unwrap();
    let Some(target) = normal(&folder.join(file)) else {
        return Some(format!("the link {link} leaves the repository"));
    };
    let target = repository(target.to_str().unwrap());
    if !target.exists() {
        return Some(format!("the link {link} leads nowhere"));
    }
    if anchor.is_empty() {
        return None;
    }
    let text = std::fs::read_to_string(target).unwrap_or_default();
    let is_there = Page::parse(&text).anchors.contains(anchor);
    (!is_there).then(no_anchor)
}

/// Relative path without `..`; `None` if the path leaves the repository.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        let is_within = match part {
            Component::ParentDir => normal.pop(),
            Component::Normal(part) => {
                normal.push(part);
                true
            }
            _ => true,
        };
        if !is_within {
            return None;
        }
    }
    Some(normal)
}

/// Every page, relative to the root, with its text.
fn pages() -> Vec<(String, String)> {
    let root = repository("");
    let in_docs = files("docs", "md");
    let in_docs = in_docs
        .iter()
        .map(|file| file.strip_prefix(&root).unwrap().to_str().unwrap());
    let paths = OTHER_PAGES.into_iter().chain(in_docs);
    paths
        .map(|path| {
            let text = std::fs::read_to_string(repository(path)).unwrap();
            (path.to_owned(), text)
        })
        .collect()
}

#[test]
fn everything_that_a_page_names_is_there() {
    let tree = Tree::read();
    let mut faults = Vec::new();
    for (path, text) in pages() {
        let found = tree.faults(&path, &text);
        faults.extend(found.into_iter().map(|fault| format!("{path}: {fault}")));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_page_that_names_what_is_not_there_is_found_out() {
    let text = "\
# A heading, and `code`

[good](../README.md) [good](redis.md#redis-with-replicas) [good](#a-heading-and-code) [other](https://example.org/x#y)
[bad](gone.md) [bad](redis.md#gone) [bad](#gone) [bad](../../../x) <img src=\"gone.svg\">

Good: `src/config.rs`, `leave.sh`, `make run`, `RATE_LIMIT=off make load`, `portcullis user create --admin root`, `ACCESS_TTL`,
`JWT_SECRET`, `LISTEN`, `--bcrypt-cost 12`, `portcullis_logins_total`, `/openapi.json`, `users.jsonl`, `target/x.json`.

Bad: `src/config/gone.rs`, `gone.sh`, `make gone`, `portcullis gone`, `portcullis user gone`, `portcullis check --gone`,
`GONE_TTL`, `LISTENING`, `--gone`, `portcullis_gone_total`.

```console
$ BASE=x make absent && exec portcullis absent    # make nothing
$ ABSENT=1 portcullis check --absent tests/absent
```
";
    let expected = [
        "the link gone.md leads nowhere",
        "the anchor of the link redis.md#gone is not there",
        "the anchor of the link #gone is not there",
        "the link ../../../x leaves the repository",
        "the link gone.svg leads nowhere",
        "the path tests/absent is not there",
        "ABSENT is no setting",
        "the path src/config/gone.rs is not there",
        "the path gone.sh is not there",
        "GONE_TTL is no setting",
        "portcullis_gone_total is no metric",
        "make has no target absent",
        "there is no command portcullis absent",
        "portcullis check --absent tests/absent has no --absent",
        "make has no target gone",
        "there is no command portcullis gone",
        "there is no command portcullis user gone",
        "portcullis check --gone has no --gone",
        "GONE_TTL is no setting",
        "LISTENING is no setting",
        "no command has the option --gone",
    ];
    let found = Tree::read().faults("docs/operate/example.md", text);
    assert_eq!(found, expected);
}

#[test]
fn names_that_are_no_settings_are_read_or_defined_elsewhere() {
    let tree = Tree::read();
    for (name, file) in OTHER_NAMES {
        assert!(!tree.settings.contains(name), "{name} is a setting by now");
        let text = std::fs::read_to_string(repository(file)).unwrap();
        assert!(text.contains(name), "{file} does not know {name}");
    }
}

#[test]
fn every_page_of_docs_is_in_its_index() {
    let index = std::fs::read_to_string(repository("docs/README.md")).unwrap();
    let links = Page::parse(&index).links;
    for (path, _) in pages() {
        if let Some(path) = path.strip_prefix("docs/").filter(|it| *it != "README.md") {
            assert!(
                links.iter().any(|link| link == path),
                "{path} is not in docs/README.md"
            );
        }
    }
}

#[test]
fn the_readme_is_short() {
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    let lines = readme.lines().count();
    assert!(lines <= MAX_README_LINES, "README.md has {lines} lines");
}

#[test]
fn sentences_name_their_actors() {
    let mut found = Vec::new();
    for (path, text) in pages() {
        for (number, line) in text.lines().enumerate() {
            let mut words = line.split(|it: char| !(it.is_alphanumeric() || it == '_'));
            if words.any(|word| VAGUE.contains(&word.to_lowercase().as_str())) {
                found.push(format!("{path}:{}: {line}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
