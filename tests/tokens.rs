//! Access tokens that this service would not have issued. Most are signed with its own key: everything but the signature is
//! wrong with them, and a library does not check that by itself.

use std::time::Duration;

use aws_lc_rs::hmac::{HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use serde_json::{Value, json};

use crate::harness::SECRET;
use crate::harness::mint::{
    Desk, HOUR, ISSUER, NOW, issue, segment, signed, signed_by, tokens, with, with_another, without,
};

const CLAIMS: [&str; 12] = [
    "iss",
    "sub",
    "aud",
    "client_id",
    "exp",
    "nbf",
    "iat",
    "jti",
    "sid",
    "ver",
    "username",
    "roles",
];

#[test]
fn the_honest_token_is_accepted_however_its_claims_are_ordered_or_spaced() {
    let desk = Desk::open();
    assert!(desk.accepts(&desk.token));
    assert_eq!(desk.header["typ"], "at+jwt");
    assert_eq!(desk.header["alg"], "HS256");
    for claim in CLAIMS {
        assert!(!desk.claims[claim].is_null(), "{claim}");
    }
    // Without this check, the tokens below could be refused for the wrong reason.
    assert!(desk.accepts(&signed(&desk.header.to_string(), &desk.claims.to_string())));
    let spaced = serde_json::to_string_pretty(&desk.claims).unwrap();
    assert!(desk.accepts(&desk.claiming(&spaced)));
    // A verifier ignores claims that it does not know (RFC 7519 §4).
    assert!(desk.accepts(&desk.claiming(&with(&desk.claims, "nickname", "al"))));
}

/// jsonwebtoken by itself accepts a token without `iss`, `aud`, `sub`, `iat` or `jti`, and one without `typ`.
#[test]
fn t7_a_token_that_lacks_a_claim_or_a_header_member_is_refused() {
    let desk = Desk::open();
    let mut forged: Vec<_> = CLAIMS
        .iter()
        .map(|claim| desk.claiming(&without(&desk.claims, claim)))
        .collect();
    forged.extend(["typ", "alg", "kid"].map(|member| desk.headed(&without(&desk.header, member))));
    forged.extend(["{}", "[]", "null", "\"\"", "1", ""].map(|claims| desk.claiming(claims)));
    forged.extend(["{}", "[]", "null", "\"\"", "1", ""].map(|header| desk.headed(header)));
    desk.refuses_all("tokens without a claim or a header member", &forged);
}

/// jsonwebtoken by itself accepts `iss: 1`, `aud: 1` and lists of issuers (CVE-2026-25537 is of this kind).
#[test]
fn t8_a_claim_of_another_type_is_refused() {
    let desk = Desk::open();
    let mut forged = Vec::new();
    for claim in CLAIMS {
        let honest = &desk.claims[claim];
        for value in [
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(-1),
            json!(1.5),
            json!(1e300),
            json!(""),
            json!("x"),
            json!([]),
            json!({}),
            json!([honest]),
            json!([honest, "evil"]),
            json!({"x": honest}),
            json!(honest.to_string()),
            json!([null]),
            json!([1]),
            json!(["Ad min"]),
            json!("\u{0}"),
            json!(format!("{honest} ")),
        ] {
            // These values are valid, and not the subject of this test: no roles, the lowest version, valid since 1970.
            let is_valid = matches!((claim, &value), ("roles", Value::Array(roles)) if roles.is_empty())
                || (["ver", "nbf"].contains(&claim) && value == json!(0));
            if !is_valid {
                forged.push(desk.claiming(&with(&desk.claims, claim, value)));
            }
        }
    }
    // Numbers that are no whole seconds, as JSON can write them.
    for claim in ["exp", "nbf", "iat", "ver"] {
        let honest = desk.claims[claim].to_string();
        for number in [
            format!("{honest}.0"),
            format!("{honest}e0"),
            format!("{honest}.5"),
            format!("-{honest}"),
            "1e999".to_owned(),
            "18446744073709551616".to_owned(),
        ] {
            let text = desk.claims.to_string().replace(
                &format!("\"{claim}\":{honest}"),
                &format!("\"{claim}\":{number}"),
            );
            assert!(text.contains(&number), "{text}");
            forged.push(desk.claiming(&text));
        }
    }
    for member in ["typ", "alg", "kid"] {
        let honest = &desk.header[member];
        for value in [
            json!(null),
            json!(true),
            json!(1),
            json!([]),
            json!({}),
            json!([honest]),
            json!({"x": honest}),
            json!(""),
        ] {
            forged.push(desk.headed(&with(&desk.header, member, value)));
        }
    }
    desk.refuses_all("claims and header members of another type", &forged);
}

#[test]
fn t13_a_claim_or_header_member_that_is_there_twice_is_refused() {
    let desk = Desk::open();
    let mut forged = Vec::new();
    for claim in CLAIMS {
        for value in [
            desk.claims[claim].clone(),
            json!("evil"),
            json!(null),
            json!(1),
        ] {
            forged.push(desk.claiming(&with_another(&desk.claims, claim, &value)));
            // The genuine value comes last, behind another.
            let first = with(&desk.claims, claim, value);
            let first: Value = serde_json::from_str(&first).unwrap();
            forged.push(desk.claiming(&with_another(&first, claim, &desk.claims[claim])));
        }
    }
    for member in ["typ", "alg", "kid"] {
        for value in [desk.header[member].clone(), json!("none"), json!(null)] {
            forged.push(desk.headed(&with_another(&desk.header, member, &value)));
        }
    }
    desk.refuses_all("claims and header members that are there twice", &forged);
}

#[test]
fn t11_t26_a_token_for_somebody_else_or_from_somewhere_else_is_refused() {
    let desk = Desk::open();
    let mut forged = Vec::new();
    for (claim, values) in [
        (
            "iss",
            vec![
                "http://localhost:8080/",
                "https://localhost:8080",
                "http://LOCALHOST:8080",
                "http://localhost",
                "localhost:8080",
                "http://localhost:8080 ",
                "evil",
            ],
        ),
        (
            "aud",
            vec![
                "Portcullis",
                "portcullis ",
                "portcullis,evil",
                "http://localhost:8080",
                "evil",
            ],
        ),
        ("client_id", vec!["Portcullis", "other", "portcullis2"]),
    ] {
        for value in values {
            forged.push(desk.claiming(&with(&desk.claims, claim, value)));
        }
    }
    for typ in [
        "JWT",
        "at+JWT",
        "AT+JWT",
        "rt+jwt",
        "at+jwt ",
        "application/at+jwt",
        "id+jwt",
        "jwt",
    ] {
        forged.push(desk.headed(&with(&desk.header, "typ", typ)));
    }
    // Tokens of another environment with a different key, issuer or audience.
    for (secret, issuer, audience) in [
        (
            "another-secret-3fA9kQ2pX7vLr8TnB5yWc1",
            ISSUER,
            "portcullis",
        ),
        (SECRET, "http://staging.example", "portcullis"),
        (SECRET, ISSUER, "staging"),
    ] {
        forged.push(issue(&tokens(secret, issuer, audience, &desk.clock)));
    }
    desk.refuses_all("tokens for or from somebody else", &forged);
}

/// jsonwebtoken by itself accepts `nbf` in an hour, `exp` 59 seconds ago, `iat` in an hour and `exp` at the end of time.
#[test]
fn t9_t10_dates_hold_within_a_leeway_of_five_seconds() {
    let desk = Desk::open();
    let day = 24 * HOUR;
    let mut forged = Vec::new();
    for (claims, is_accepted) in [
        (json!({"exp": NOW + 1}), true),
        (json!({"exp": NOW - 4, "iat": NOW - 10}), true),
        (json!({"exp": NOW - 5, "iat": NOW - 10}), false),
        (json!({"exp": NOW - 6, "iat": NOW - 10}), false),
        (json!({"exp": NOW - 59, "iat": NOW - HOUR}), false),
        (json!({"exp": 0, "iat": 0, "nbf": 0}), false),
        (json!({"nbf": NOW + 5}), true),
        (json!({"nbf": NOW + 6}), false),
        (json!({"nbf": NOW + HOUR}), false),
        (json!({"nbf": u64::MAX}), false),
        (json!({"iat": NOW + 5}), true),
        (json!({"iat": NOW + 6}), false),
        (json!({"iat": NOW + HOUR}), false),
        (json!({"iat": u64::MAX}), false),
        (json!({"iat": NOW + 5, "exp": NOW + 4}), false),
        // No token of ours lives longer than a day.
        (json!({"exp": NOW + day}), true),
        (json!({"exp": NOW + day + 1}), false),
        (json!({"exp": NOW + HOUR, "iat": NOW + HOUR - day}), true),
        (
            json!({"exp": NOW + HOUR, "iat": NOW + HOUR - day - 1}),
            false,
        ),
        (json!({"exp": u64::MAX}), false),
        (json!({"exp": u64::MAX, "iat": u64::MAX, "nbf": 0}), false),
        (json!({"exp": u64::MAX, "iat": 0, "nbf": 0}), false),
        (json!({"exp": i64::MAX}), false),
    ] {
        let mut all = desk.claims.clone();
        for (claim, value) in claims.as_object().unwrap() {
            all[claim] = value.clone();
        }
        let token = desk.claiming(&all.to_string());
        if is_accepted {
            assert!(desk.accepts(&token), "{claims}");
        } else {
            forged.push(token);
        }
    }
    desk.refuses_all("tokens out of their time", &forged);
}

#[test]
fn t10_a_token_that_was_verified_once_still_expires() {
    let desk = Desk::open();
    assert!(desk.accepts(&desk.token));
    desk.clock.advance(Duration::from_secs(HOUR + 4));
    assert!(desk.accepts(&desk.token), "within the leeway");
    desk.clock.advance(Duration::from_secs(1));
    assert!(
        !desk.accepts(&desk.token),
        "remembered for longer than it is valid"
    );
}

#[test]
fn t1_t3_t4_the_header_chooses_neither_algorithm_nor_key() {
    let desk = Desk::open();
    let claims = desk.claims.to_string();
    let kid = desk.header["kid"].as_str().unwrap();
    let mut forged = Vec::new();
    for alg in [
        "none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "HS384", "HS512", "RS256", "PS256",
        "ES256", "EdDSA", "HS255", "null", "dir",
    ] {
        let header = with(&desk.header, "alg", alg);
        let unsigned = format!("{}.{}", segment(&header), segment(&claims));
        forged.push(format!("{unsigned}."));
        forged.push(unsigned);
        for algorithm in [HMAC_SHA256, HMAC_SHA384, HMAC_SHA512] {
            forged.push(signed_by(algorithm, SECRET.as_bytes(), &header, &claims));
        }
    }
    for algorithm in [HMAC_SHA384, HMAC_SHA512] {
        forged.push(signed_by(
            algorithm,
            SECRET.as_bytes(),
            &desk.header.to_string(),
            &claims,
        ));
    }
    // Keys that a forger may try under our key ID.
    for key in [
        "",
        "secret",
        "supersecretkey",
        kid,
        &SECRET[1..],
        &format!("{SECRET}\n"),
        &SECRET.to_uppercase(),
        &segment(SECRET),
    ] {
        forged.push(signed_by(
            HMAC_SHA256,
            key.as_bytes(),
            &desk.header.to_string(),
            &claims,
        ));
    }
    let long = "k".repeat(2_000);
    for other in [
        "",
        "x",
        "../../../../dev/null",
        "/dev/null",
        "file:///dev/null",
        "' OR 1=1 --",
        "portcullis:keys",
        "*",
        "\0",
        "a\r\nb",
        "\u{202e}",
        &long,
        &kid.to_lowercase(),
        &format!("{kid} "),
        &format!("{kid}="),
        &kid[..kid.len() - 1],
    ] {
        let header = with(&desk.header, "kid", other);
        forged.push(signed(&header, &claims));
        forged.push(signed_by(HMAC_SHA256, b"", &header, &claims));
    }
    desk.refuses_all("headers that choose an algorithm or a key", &forged);
}

/// jsonwebtoken by itself accepts an unknown critical extension and ignores embedded keys.
#[test]
fn t5_t6_a_header_that_brings_extensions_or_keys_is_refused() {
    let desk = Desk::open();
    let jwk = json!({"kty": "oct", "k": segment(SECRET), "alg": "HS256"});
    let extensions = [
        ("crit", json!(["x"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!("x")),
        ("crit", json!(null)),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("enc", json!("A256GCM")),
        ("epk", json!({})),
        ("jwk", jwk),
        ("jku", json!("http://127.0.0.1:1/jwks.json")),
        ("x5u", json!("http://127.0.0.1:1/x.pem")),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("x")),
        ("x5t#S256", json!("x")),
        ("url", json!("x")),
        ("nonce", json!("x")),
        ("x", json!(1)),
    ];
    let mut forged: Vec<_> = extensions
        .iter()
        .map(|(member, value)| desk.headed(&with(&desk.header, member, value.clone())))
        .collect();
    let mut critical = desk.header.clone();
    (critical["crit"], critical["x"]) = (json!(["x"]), json!(true));
    forged.push(desk.headed(&critical.to_string()));
    desk.refuses_all("headers with extensions or keys", &forged);
}
