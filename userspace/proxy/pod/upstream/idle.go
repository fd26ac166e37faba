package upstream

import "github.com/kerngate/kerngate/userspace/proxy/io/leaky"

// idleRate bounds the frames of a session that may bring no request further. A pod may ask by PING
// for as long as a stream is quiet.
var idleRate = leaky.Rate{Burst: 1000, PerSecond: 10}
