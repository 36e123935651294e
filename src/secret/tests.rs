use super::*;
use proptest::prelude::*;

fn words(line: &str) -> String {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    masked(&words).join(" ")
}

#[test]
fn secrets_in_command_lines_are_masked() {
    for (line, shown) in [
        ("host --api-key sk-test-123456 --port 80", "host --api-key [secret] --port 80"),
        ("host --api-key=hunter2", "host --api-key=[secret]"),
        ("env OPENAI_API_KEY=abc host", "env OPENAI_API_KEY=[secret] host"),
        ("host --password 123", "host --password [secret]"),
        ("host token=abc", "host token=[secret]"),
        ("host --hf-token hf_abcdefgh1234", "host --hf-token [secret]"),
        ("host https://u:pw@h/x?token=abc&n=1", "host https://u:[secret]@h/x?token=[secret]&n=1"),
        ("host hf_AbCdEfGh12345", "host [secret]"),
        ("host --x=sk-proj-abc_def-123456", "host --x=[secret]"),
        ("host 0123456789abcdef0123456789abcdef", "host [secret]"),
        ("host Q2hhcmxpZTEyMzQ1Njc4OTBBQkNERUZHSElK", "host [secret]"),
    ] {
        assert_eq!(words(line), shown, "{line}");
    }
    let header: Vec<String> = ["-H", "Authorization: Bearer abc", "--apiKey", "a b"].map(str::to_owned).into();
    assert_eq!(masked(&header), ["-H", "Authorization: Bearer [secret]", "--apiKey", MASK]);
}

#[test]
fn what_is_no_secret_stays() {
    for line in [
        "python3 adapter.py --state /tmp/.tmpAbC123/state --token-ms 1.5 --tokens 12 --eos-token </s>",
        "host --model mlx-community/Qwen3-30B-A3B-Instruct-2507-MLX-4bit",
        "report 20261121T202232Z-quickstart-edb6456c",
        "host --revision 0123456789abcdef0123456789abcdef01234567",
        "/home/x/builds/0123456789abcdef0123456789abcdef01234567-program/host --key-file /x/key.pem",
        "host --token 5 --sort-key name --cache-key x --sk-learn sk-learning",
        "cargo build --release --locked --bin inferometer --target-dir {shared}",
    ] {
        assert_eq!(words(line), line);
    }
}

#[test]
fn secrets_in_texts_are_masked() {
    for (text, shown) in [
        ("--api-key [secret]", "--api-key [secret]"),
        (
            "engine.0.options.command=[\"x\", \"--api-key\", \"abc\"]",
            "engine.0.options.command=[\"x\", \"--api-key\", \"[secret]\"]",
        ),
        ("engine.0.options.api_key=\"abc\"", "engine.0.options.api_key=\"[secret]\""),
        ("{\"password\": \"abc\", \"n\": 1}", "{\"password\": \"[secret]\", \"n\": 1}"),
        ("401: bad key sk-test-123456.", "401: bad key [secret]"),
        ("token 7 of turn 2", "token 7 of turn 2"),
        // Found by fuzzing: the name of a hash hid the key after it.
        ("commit sk-test-123456", "commit [secret]"),
        ("commit 0123456789abcdef0123456789abcdef01234567", "commit 0123456789abcdef0123456789abcdef01234567"),
    ] {
        assert_eq!(masked_text(text), shown);
    }
}

#[test]
fn known_secrets_are_found_again_and_put_back() {
    let command: Vec<String> = ["host", "--api-key", "hunter22", "--x=1"].map(str::to_owned).into();
    let mut secrets = Secrets::default();
    secrets.add_words(&command);
    assert_eq!(secrets.hidden("hunter22 is refused"), "[secret] is refused");
    secrets.add_words(&["--password", "finished"].map(str::to_owned));
    assert_eq!(secrets.hidden("finished"), "finished", "a word of the record itself");
    let mut recorded = masked(&command);
    assert!(!fill(&mut recorded.clone(), &[]) && fill(&mut recorded, &command));
    assert_eq!(recorded, command);
    let other: Vec<String> = ["host", "--api-key", "hunter22", "--x=2"].map(str::to_owned).into();
    assert!(fill(&mut masked(&command), &other), "only the secrets are taken");
}

#[test]
fn a_digest_keeps_a_short_secret_that_it_contains_by_chance() {
    let mut secrets = Secrets::default();
    secrets.add_words(&["--password", "12345"].map(str::to_owned));
    let texts = ["a password of 12345".to_owned(), "0123456789abcdef".to_owned()];
    let shown = secrets.hidden_in(&texts.to_vec()).unwrap();
    assert_eq!(shown, ["a password of [secret]", "0123456789abcdef"]);
}

#[test]
fn masking_twice_changes_nothing_more() {
    for line in ["host token=abc&r", "host https://u:pw@h/x?token=abc&n=1", "host --header [sk-test-123456]"] {
        let once = words(line);
        assert_eq!((words(&once).as_str(), masked_text(&once)), (once.as_str(), masked_text(&masked_text(&once))));
    }
    assert_eq!(words("host token=[secret]&r=1"), "host token=[secret]&r=1");
    // Found by fuzzing: a key that follows its name, is more than a word and holds a name itself.
    assert_eq!(masked(&["Bearer", "a \"b token=c"].map(str::to_owned)), ["Bearer", MASK]);
    assert_eq!(words("host [secret] sk-test-123456"), "host [secret] [secret]", "a mask hides nothing after it");
}

/// Pieces of which command lines with secrets are made.
fn pieces() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "token",
        "--api-key",
        "commit",
        "sk-test-123456",
        "hf_abcdefgh1234",
        MASK,
        "[",
        "]",
        "=",
        ":",
        "&",
        " ",
        " ",
        "\"",
        ",",
        "https://u:pw@h/",
        "Bearer",
        "basic",
        "7",
        "x",
        "-",
        "/",
        "0123456789abcdef0123456789abcdef",
        "secret",
        "'",
        ";",
        "?",
        "password",
        "sha",
        ".",
        "zAKIA12345678",
        "@",
        "://",
    ]);
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_masked_stays_as_it_is(text in pieces(), more in proptest::collection::vec(pieces(), 0..3)) {
        let once = masked_text(&text);
        prop_assert_eq!(masked_text(&once), once);
        let once = masked(&more);
        prop_assert_eq!(masked(&once), once);
    }
}
