"""What the gRPC client and server of our own programs must agree on: channel options, and where details travel.

A server that expects fewer pings than its clients send cuts them off ("too many pings"), so both halves stand here.
What only one side cares about (message sizes, concurrency) is set where the server or channel is made.
"""

# gRPC's own name for the trailer that holds a google.rpc.Status.
DETAILS_KEY = "grpc-status-details-bin"

# A dead peer behind a silent network is noticed after 30 + 10 s, also while no call is open.
KEEPALIVE_TIME_MS = 30_000
KEEPALIVE_TIMEOUT_MS = 10_000
# A third of the above: a client of ours can never be too eager, and a flood of pings is still refused.
SERVER_MIN_PING_INTERVAL_MS = 10_000
# After an outage of the peer the next attempt comes within a second, not within gRPC's two minutes.
RECONNECT_BACKOFF_MAX_MS = 1_000
RECONNECT_BACKOFF_MIN_MS = 100
# For one attempt to connect, handshakes included: it takes that long between busy machines, or over a bad network.
CONNECT_WAIT_MS = 5_000
# For a call that has come to a process which is too busy to begin with it. gRPC's own thirty seconds end it as
# CANCELLED, which tells a caller nothing; the caller's deadline holds all the same.
NOT_BEGUN_MAX_SECONDS = 300

CLIENT_OPTIONS: tuple[tuple[str, int], ...] = (
    # Proxy variables in the environment would otherwise carry off even loopback connections.
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_BACKOFF_MIN_MS),
    # By its name a pause, but what gRPC does with it is to give an attempt this long, or up to its next one.
    ("grpc.min_reconnect_backoff_ms", CONNECT_WAIT_MS),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_BACKOFF_MAX_MS),
)

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    # By default a second server binds the same port without a word and takes half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", SERVER_MIN_PING_INTERVAL_MS),
    ("grpc.http2.max_ping_strikes", 3),
    ("grpc.server_max_unrequested_time_in_server", NOT_BEGUN_MAX_SECONDS),
)
