package hosts

import "runtime"

// arch is this machine's architecture, as Debian calls it too.
const arch = runtime.GOARCH
