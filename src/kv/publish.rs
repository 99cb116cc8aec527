//! Messages to the subscribers of a channel.

use super::Kv;
use crate::client::{Argument, Command, Repeat};
use crate::error::Result;

impl Kv {
    /// Publishes a message on a channel and returns how many subscribers of this server got it.
    ///
    /// Messages are not stored: clients that are not subscribed at this moment never receive them.
    /// Channels are the same in all databases of a server.
    ///
    /// # Errors
    /// [`Error::Indeterminate`](crate::Error::Indeterminate) when the connection is lost meanwhile,
    /// as publishing twice could be wrong.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(kv: oxbull::kv::Kv) -> oxbull::Result<()> {
    /// let subscribers = kv.publish("orders:paid", r#"{"order":17}"#).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish(&self, channel: &str, message: impl Argument) -> Result<u64> {
        let command = Command::new("PUBLISH").arg(channel).arg(message);
        let reply = self.connection.call(command, Repeat::Once).await?;
        Ok(u64::try_from(reply.int()?).unwrap_or(0))
    }
}
