//! `polyview serve`: a trained network behind HTTP on this machine.

use std::process::ExitCode;

use clap::Args;

use super::signals::stop_flag;
use super::trained::TrainedArgs;
use super::{CommandResult, Failure, Terminal, print_text};
use crate::options::{between, within};
use crate::serve::{Limits, Model, Server};

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Port to listen on; 0 for any free one
    #[arg(long, value_name = "PORT", value_parser = within::<u16>(0, 65535), default_value_t = 8080)]
    port: u16,
    /// Name or address of this machine to listen on; anything but 127.0.0.1 lets others in
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Maximum size of one request's clips, MiB
    #[arg(long, value_name = "MIB", value_parser = between(1, 65_536), default_value_t = 256)]
    max_upload: usize,
    // Last, because options after it would be listed under its headings.
    #[command(flatten)]
    trained: TrainedArgs,
}

impl ServeArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> CommandResult {
        let Some(checkpoint) = &self.trained.checkpoint else {
            return Err(Failure::usage("--checkpoint is required: weights that `train` wrote"));
        };
        let max_upload = (self.max_upload as u64) << 20;
        let limits = Limits { max_upload, ..Limits::default() };
        let server = Server::bind(&self.host, self.port, limits)?;
        let trained = self.trained.open(checkpoint)?;
        trained.warn_of_inputs();
        let about = trained.describe();
        let stop = stop_flag();
        print_text(&format!("http://{}/", server.address()))?;
        terminal.line(&about);
        if !server.address().ip().is_loopback() {
            log::warn!("anyone who can reach this address can use it: there are no accounts");
        }
        let name = checkpoint.file_name().unwrap_or(checkpoint.as_os_str());
        let model = Model {
            name: name.to_string_lossy().into_owned(),
            net: trained.net,
            info: trained.info,
            schema: trained.schema,
            input: trained.input,
            options: trained.options,
            min_confidence: self.trained.min_confidence,
            compute: trained.compute,
        };
        server.run(model, &stop)?;
        Ok(ExitCode::SUCCESS)
    }
}
