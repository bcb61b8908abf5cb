//! The unit tests of what the examples share; cargo runs none inside of examples.
#![allow(dead_code, reason = "each part is used by an example")]

#[path = "../examples/common/environment.rs"]
mod environment;
#[path = "../examples/common/exit.rs"]
mod exit;
#[path = "../examples/common/games.rs"]
mod games;
#[path = "../examples/common/games_file.rs"]
mod games_file;
#[path = "../examples/common/gate.rs"]
mod gate;
#[path = "../examples/common/host.rs"]
mod host;
#[path = "../examples/control/json.rs"]
mod json;
#[path = "../examples/common/listen.rs"]
mod listen;
#[path = "../examples/common/log.rs"]
mod log;
#[path = "../examples/common/notify.rs"]
mod notify;
#[path = "../examples/common/own_token.rs"]
mod own_token;
#[path = "../examples/common/private_folder.rs"]
mod private_folder;
#[path = "../examples/common/random.rs"]
mod random;
#[path = "../examples/common/reported.rs"]
mod reported;
#[path = "../examples/common/states.rs"]
mod states;
#[path = "../examples/control/table.rs"]
mod table;
#[path = "../examples/common/text.rs"]
mod text;
#[path = "../examples/common/token.rs"]
mod token;
#[path = "../examples/common/words.rs"]
mod words;
