//! Prompts and conversations, in the scenario and in files beside it.

use super::*;

#[test]
fn files_that_cannot_be_read_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let why = |name: &str| load(&path(name), &[], &offers()).unwrap_err().to_string();
    assert!(why("gone.toml").contains("no such file"));
    assert!(why("").contains("folder"));
    fs_err::write(path("empty.toml"), "").unwrap();
    assert!(why("empty.toml").contains("is empty"));
    fs_err::write(path("latin.toml"), b"name = \"t\"\ndescription = \"caf\xe9\"").unwrap();
    assert!(why("latin.toml").contains("not UTF-8 text: line 2"), "{}", why("latin.toml"));
    fs_err::write(path("huge.toml"), vec![b'x'; 10 << 20]).unwrap();
    assert!(why("huge.toml").contains("larger than 1.00 MiB"));
    fs_err::write(path("scene.toml"), "").unwrap();
    assert!(why("scen.toml").contains("scene.toml?"), "{}", why("scen.toml"));
    let text = least("");
    fs_err::write(path("bom.toml"), format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    assert_eq!(load(&path("bom.toml"), &[], &offers()).unwrap(), good(&text, &[]));
}

#[test]
fn prompt_files_are_read_beside_the_scenario() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("s.toml");
    fs_err::write(dir.path().join("p.txt"), "a prompt").unwrap();
    fs_err::write(&scenario, least("").replace("text = \"hello\"", "text_file = \"p.txt\"")).unwrap();
    let Workload::Prompt(workload) = load(&scenario, &[], &offers()).unwrap().workload else { panic!("a prompt") };
    assert_eq!((workload.text.as_str(), workload.text_file.as_deref()), ("a prompt", Some("p.txt")));
    fs_err::write(dir.path().join("p.txt"), b"\xff\xfe").unwrap();
    assert!(load(&scenario, &[], &offers()).unwrap_err().to_string().contains("not UTF-8"));
    fs_err::remove_file(dir.path().join("p.txt")).unwrap();
    assert!(load(&scenario, &[], &offers()).unwrap_err().to_string().contains("no such file"));
}

/// A conversation with these keys in its `[workload]`.
fn conversation(keys: &str) -> String {
    least("").replace("text = \"hello\"", &format!("kind = \"conversation\"\n{keys}"))
}

#[test]
fn a_conversation_comes_out_as_it_was_meant() {
    let scenario = good(&conversation("turn = [{ user = \"a\" }, { user = \"b\", reply = \"c\" }]"), &[]);
    let Workload::Conversation(work) = &scenario.workload else { panic!("a conversation") };
    assert_eq!((work.replies, work.max_tokens, work.ignore_eos), (Replies::Generated, 128, false));
    assert_eq!((work.turns.len(), work.turns[1].reply.as_deref(), &work.system), (2, Some("c"), &None));
    assert_eq!((scenario.workload.turns(), scenario.workload.warmup_turns()), (2, vec![0, 1]));
    let plan = plan(&scenario, &offers()).unwrap();
    assert_eq!((labels(&plan), plan.cells[0].length), (vec!["transformer"], None));
    let outline = crate::scenario::outline(&scenario, &plan);
    assert_eq!((outline.requests, outline.warmup_requests, outline.hosts), (20, 2, 1));
    assert_eq!((outline.prefill_tokens, outline.generated_tokens), (None, 20 * 128));
}

#[test]
fn both_ways_of_reuse_are_cells_of_their_own() {
    let text = conversation("turn = [{ user = \"a\" }]") + "[toggles]\nkv_reuse = [\"prefix\", \"none\"]\n";
    assert_eq!(labels(&planned(&text)), ["reuse=prefix", "reuse=none"]);
}

#[test]
fn files_of_a_conversation_are_read_beside_the_scenario() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("s.toml");
    fs_err::write(dir.path().join("who.txt"), "You are brief.").unwrap();
    fs_err::write(dir.path().join("talk.toml"), "[[turn]]\nuser = \"a\"\nreply = \"b\"\n").unwrap();
    let keys = "system_file = \"who.txt\"\nturns_file = \"talk.toml\"\nreplies = \"fixed\"";
    fs_err::write(&scenario, conversation(keys)).unwrap();
    let Workload::Conversation(work) = load(&scenario, &[], &offers()).unwrap().workload else { panic!("one") };
    assert_eq!((work.system.as_deref(), work.system_file.as_deref()), (Some("You are brief."), Some("who.txt")));
    assert_eq!((work.turns[0].reply.as_deref(), work.turns_file.as_deref()), (Some("b"), Some("talk.toml")));
    let displaced = load(&scenario, &["workload.turn=[{user='x'},{user='y'}]".to_owned()], &offers());
    assert!(displaced.unwrap_err().to_string().contains("this turn needs a `reply`"), "a `--set` replaces the file");
    let both = bad(&conversation("turn = [{ user = \"a\" }]\nsystem = \"s\"\nsystem_file = \"f\""), &[]);
    assert!(both.contains("`system` and `system_file` cannot be used together"), "{both}");
}

#[test]
fn every_turn_counts_as_a_request() {
    let turns = vec!["{ user = \"a\" }"; 600].join(", ");
    let text = conversation(&format!("turn = [{turns}]")) + "[run]\niterations = 2000\n";
    let error = plan(&good(&text, &[]), &offers()).unwrap_err().to_string();
    assert!(error.contains("1 cells with 2000 iterations each of 600 turns exceed 1000000 requests"), "{error}");
}

#[test]
fn a_chat_comes_from_the_scenario_or_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("s.toml");
    let write = |workload: &str| {
        let head = "name = \"t\"\n[model]\nsynthetic = { arch = \"qwen3\", preset = \"tiny\" }\n";
        fs_err::write(&scenario, format!("{head}[workload]\nkind = \"chat\"\n{workload}")).unwrap();
        load(&scenario, &[], &offers())
    };
    let chat = |scenario: Scenario| match scenario.workload {
        Workload::Prompt(work) => work.messages.unwrap(),
        Workload::Conversation(_) => panic!("a chat is one prompt"),
    };
    let inline = "tools = [{ type = \"function\" }]\ntemplate_arguments = { enable_thinking = false }\n\
                  [[workload.message]]\nrole = \"user\"\ncontent = \"hi\"\n";
    let said = chat(write(inline).unwrap());
    fs_err::write(dir.path().join("c.json"), serde_json::to_string(&said).unwrap()).unwrap();
    assert_eq!(chat(write("chat_file = \"c.json\"").unwrap()), said);
    let other = chat(write("chat_file = \"c.json\"\ntemplate_arguments = { enable_thinking = true, a = 1 }").unwrap());
    assert_eq!(serde_json::to_string(&other.template_arguments).unwrap(), r#"{"enable_thinking":true,"a":1}"#);
    for (workload, told) in [
        ("chat_file = \"gone.json\"", "there is no such file"),
        ("chat_file = \"c.json\"\ntemplate_arguments = { tools = 1 }", "`tools` cannot be a template argument"),
        ("[[workload.message]]\ncontent = \"hi\"", "message 1: a message needs a `role`"),
        ("[[workload.message]]\nrole = \"user\"\ncontent = [{ type = \"image_url\" }]", "type `image_url`"),
        ("chat_file = \"c.json\"\ntools = 3", "`tools` must be a list"),
        ("", "chat_file"),
    ] {
        let error = write(workload).unwrap_err().to_string();
        assert!(error.contains(told), "{workload}: {error}");
    }
}

#[test]
fn the_shipped_chats_are_chats() {
    for name in ["boat-trip.json", "log-search.toml"] {
        let chat = super::super::chat_file(&Path::new("scenarios/prompts").join(name)).unwrap();
        assert_eq!(chat.tools.as_ref().map(Vec::len), Some(2), "{name}");
        let calls = chat.messages.iter().filter(|message| message.fields().contains_key("tool_calls")).count();
        let results = chat.messages.iter().filter(|message| message.role() == "tool").count();
        assert_eq!((calls, results), (2, 2), "{name}");
    }
}
