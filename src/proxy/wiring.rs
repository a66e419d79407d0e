//! How a worker's request path is put together, at the start and after a reload.

use std::sync::Arc;

use super::{
    Proxy,
    admission::Admission,
    dashboard_feed::DashboardPolls,
    device_lists::DeviceLists,
    dispatch::Dispatcher,
    failover::{live::LiveStreams, socket::Sockets},
    group_lists::GroupLists,
    identify::Identifier,
    in_step::InStep,
    leader_routing::LeaderRouter,
    learn::Learner,
    log_in::LogInBrake,
    migrate::Migrator,
    observer::Observer,
    plain::Plain,
    pod_client::PodClient,
    remote_control::RemoteController,
    replay::Replayer,
    revoke::Revoker,
    selector::Selector,
    session_lists::SessionLists,
    shared_state::SharedState,
    user_data::UserData,
    visit::Visits,
};
use crate::{
    forward::Forward,
    observe::{access, metrics::Metrics},
    shutdown::Shutdown,
};

impl Proxy {
    /// One worker's request path.
    pub fn new(shared: Arc<SharedState>, access: access::Worker, metrics: Metrics, shutdown: Shutdown) -> Arc<Proxy> {
        let observer = Arc::new(Observer::new(access, metrics.clone(), shared.server_timing));
        let forward = Arc::new(Forward::new(shared.forward.clone()));
        Proxy::wire(shared, (observer, forward), metrics, shutdown)
    }

    /// The request path after a reload. It keeps the connections to pods, and the access log unless
    /// that is another one now.
    pub fn renewed(&self, shared: Arc<SharedState>, access: Option<access::Worker>) -> Arc<Proxy> {
        let metrics = self.metrics.clone();
        let observer = match access {
            Some(access) => Arc::new(Observer::new(access, metrics.clone(), shared.server_timing)),
            None => {
                self.observer.set_tells_waits(shared.server_timing);
                self.observer.clone()
            }
        };
        let forward = Arc::new(self.forward.renewed(shared.forward.clone()));
        Proxy::wire(shared, (observer, forward), metrics, self.shutdown.clone())
    }

    /// Wires the objects, the lowest first.
    fn wire(
        shared: Arc<SharedState>,
        (observer, forward): (Arc<Observer>, Arc<Forward>),
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> Arc<Proxy> {
        let pods = Arc::new(PodClient::new(forward.clone(), shared.own_databases()));
        let selector = Arc::new(Selector::new(shared.clone()));
        let identifier = Arc::new(Identifier::new(shared.clone(), selector.clone(), shutdown.clone()));
        let user_data = Arc::new(UserData::new(shared.clone(), pods.clone(), metrics.clone(), shutdown.clone()));
        let observers = (metrics.clone(), shutdown.clone());
        let migrator = Arc::new(Migrator::new(shared.clone(), pods.clone(), user_data.clone(), observers));
        let revoker = Arc::new(Revoker::new(shared.clone(), selector.clone(), pods.clone(), shutdown.clone()));
        let in_step = InStep::new(shared.clone(), pods.clone(), metrics.clone(), shutdown.clone());
        let learner = Arc::new(Learner::new(shared.clone(), pods.clone()));
        let visits = Arc::new(Visits::new(shared.clone(), pods.clone(), shutdown.clone()));
        let dispatcher = Arc::new(Dispatcher::new(
            shared.clone(),
            (forward.clone(), pods.clone()),
            selector.clone(),
            (migrator.clone(), user_data.clone()),
            shutdown.clone(),
        ));
        let session_lists =
            Arc::new(SessionLists::new(shared.clone(), pods.clone(), metrics.clone(), shutdown.clone()));
        let device_lists = DeviceLists::new(shared.clone(), pods.clone(), metrics.clone());
        let group_lists = GroupLists::new(shared.clone(), (pods.clone(), migrator.clone(), visits.clone()));
        let remote_controller = RemoteController::new(
            shared.clone(),
            (dispatcher.clone(), selector.clone()),
            (migrator.clone(), visits.clone()),
            (pods.clone(), session_lists.clone()),
            (metrics.clone(), shutdown.clone()),
        );
        let leader_router = LeaderRouter::new(
            shared.clone(),
            dispatcher.clone(),
            (selector, migrator.clone()),
            (pods.clone(), visits),
            (metrics.clone(), shutdown.clone()),
        );
        let dashboard_polls = DashboardPolls::new(shared.clone(), pods.clone(), shutdown.clone());
        let replayer = Arc::new(Replayer::new(
            shared.clone(),
            identifier.clone(),
            dispatcher.clone(),
            learner.clone(),
            (observer.clone(), shutdown.clone()),
        ));
        let live_streams = Arc::new(LiveStreams::new(
            shared.clone(),
            identifier.clone(),
            (dispatcher.clone(), pods),
            (replayer.clone(), migrator),
            shutdown.clone(),
        ));
        let sockets = Arc::new(Sockets::new(
            shared.clone(),
            (dispatcher, learner.clone()),
            replayer.clone(),
            live_streams.clone(),
            (session_lists.clone(), dashboard_polls),
            (metrics.socket_messages.clone(), shutdown.clone()),
        ));
        let admission = Admission::new(shared.clone());
        let brake = Arc::new(LogInBrake::new(shared.clone(), metrics.log_in_failures.clone()));
        let plain = Plain::new(shared.clone(), forward.clone(), brake.clone(), shutdown.clone());
        Arc::new(Proxy {
            admission,
            shared,
            identifier,
            brake,
            plain,
            leader_router,
            remote_controller,
            session_lists,
            device_lists,
            group_lists,
            live_streams,
            sockets,
            revoker,
            in_step,
            learner,
            user_data,
            replayer,
            observer,
            forward,
            metrics,
            shutdown,
        })
    }
}
