//! Makes a topic if it is not there, and prints how all of them stand.

use flowstone_client::{Client, Error, ErrorCode, TopicSettings};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::var("FLOWSTONE_URL").unwrap_or("tcp://127.0.0.1:7400".to_owned());
    let client = Client::connect(&url).await?;
    match client
        .create_topic("orders", 3, TopicSettings::default())
        .await
    {
        Err(error) if error.code() != Some(ErrorCode::TopicExists) => return Err(error),
        _ => {}
    }
    for topic in client.topics().await? {
        for partition in client.describe(&topic.name).await?.partitions {
            println!(
                "{} {}: {}..{}",
                topic.name, partition.id, partition.start, partition.end
            );
        }
    }
    Ok(())
}
