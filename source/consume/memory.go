package consume

import (
	"context"
	"sync"
)

// memory is what the answers of all fetchers may occupy together. A fetcher that has
// to wait leaves its answer with the network.
type memory struct {
	mu   sync.Mutex // guards what follows
	size int
	free int
	room chan struct{} // closed when some is given back
}

func newMemory(size int) *memory {
	return &memory{size: size, free: size, room: make(chan struct{})}
}

// take borrows n bytes, or all there are for an answer that is larger. It waits for
// them, and returns how many it took; they are given back with give.
func (m *memory) take(ctx context.Context, n int) (int, error) {
	n = min(n, m.size)
	for {
		m.mu.Lock()
		if m.free >= n {
			m.free -= n
			m.mu.Unlock()
			return n, nil
		}
		room := m.room
		m.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func (m *memory) give(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free += n
	close(m.room)
	m.room = make(chan struct{})
}
