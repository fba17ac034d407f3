//! `docs/guides/service.md` as a newcomer follows it: its commands, with other ports. It needs `curl`.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

use super::{Folder, Program, example, output, within};

#[tokio::test]
async fn the_service_in_five_minutes_is_as_the_guide_says() {
    let folder = Folder::new();
    let guide = Guide::read();
    let [start, receive, send, look, fail, replay] = &guide.blocks[..] else {
        panic!("the guide has other blocks: {:?}", guide.blocks)
    };
    let retries = [("RETRY_SCHEDULE", "0.05,0.05"), ("PORT", "0")];
    let platform = Program::start(program(start, &folder).envs(retries)).await;
    let mut receiver = Program::start(program(receive, &folder).env("PORT", "0")).await;
    let place = Place {
        platform: platform.url.clone(),
        receiver: receiver.url.clone(),
    };

    place.run(send, "").await;
    assert!(
        receiver
            .line()
            .await
            .ends_with(r#" order.paid {"order":7}"#)
    );
    let [list, one] = commands(look);
    let listed = place.until(&list, "succeeded").await;
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    let delivery = place.answer(&one, &id).await;
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1);

    receiver.terminate().await;
    within(receiver.child.wait()).await.unwrap();
    let [send, list] = commands(fail);
    place.run(&send, "").await;
    let failed = place.until(&list, "failed").await;
    assert_eq!(failed["items"][0]["last_error"], "connect");
    assert_eq!(failed["items"][0]["attempt_count"], 3);

    let (_, port) = place.receiver.rsplit_once(':').unwrap();
    let mut receiver = Program::start(program(receive, &folder).env("PORT", port)).await;
    let [count, replay] = commands(replay);
    assert_eq!(place.answer(&count, "").await["count"], 1);
    place.run(&replay, "").await;
    assert!(
        receiver
            .line()
            .await
            .ends_with(r#" order.paid {"order":8}"#)
    );
}

/// The blocks of commands, each without the text around.
struct Guide {
    blocks: Vec<String>,
}

impl Guide {
    fn read() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides/service.md");
        let text = std::fs::read_to_string(file).unwrap();
        let blocks = text.split("```sh\n").skip(1);
        let blocks = blocks.map(|block| block.split("```").next().unwrap_or_default().to_owned());
        Self {
            blocks: blocks.collect(),
        }
    }
}

/// The built program that `NAME=value … cargo run --example program` runs.
fn program(block: &str, folder: &Folder) -> Command {
    let (settings, name) = block.split_once("cargo run --example ").unwrap();
    let mut command = example(name.trim());
    command.envs(
        settings
            .split_whitespace()
            .map(|it| it.split_once('=').unwrap()),
    );
    command.current_dir(folder.0.path());
    command
}

/// A block's two commands.
fn commands(block: &str) -> [String; 2] {
    let (first, second) = block.split_once("\ncurl ").unwrap();
    [first.to_owned(), format!("curl {second}")]
}

/// Where the programs listen, instead of where the guide says.
struct Place {
    platform: String,
    receiver: String,
}

impl Place {
    async fn run(&self, commands: &str, id: &str) -> String {
        let commands = commands
            .replace("http://127.0.0.1:8000", &self.platform)
            .replace("http://127.0.0.1:4000", &self.receiver)
            .replace("curl -s", "curl --fail-with-body -sS --noproxy '*'");
        let mut shell = Command::new("sh");
        let shell = shell.args(["-ec", &commands]).env("ID", id);
        let Output {
            status,
            stdout,
            stderr,
        } = output(shell).await;
        let said = String::from_utf8(stdout).unwrap();
        assert!(
            status.success(),
            "{said} {}",
            String::from_utf8_lossy(&stderr)
        );
        said
    }

    async fn answer(&self, command: &str, id: &str) -> Value {
        serde_json::from_str(&self.run(command, id).await).unwrap()
    }

    /// Asks for a list until its first item has this status.
    async fn until(&self, command: &str, status: &str) -> Value {
        within(async {
            loop {
                let list = self.answer(command, "").await;
                if list["items"][0]["status"] == status {
                    return list;
                }
            }
        })
        .await
    }
}
