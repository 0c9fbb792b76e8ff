package consume

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// trouble notes what keeps the input from being read, or a part of it: of is that
// part. nil is for nothing any more.
func (s *Source) trouble(of any, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.troubles[of]
	if err == nil {
		delete(s.troubles, of)
		if was != nil && len(s.troubles) == 0 {
			s.Log.Info("kafka is read again", "input", s.Name)
		}
		return
	}
	s.troubles[of] = err
	s.Log.Warn("kafka cannot be read; it is tried again", "input", s.Name, "error", err)
}

// Trouble is what keeps the input from being read, "" when nothing does.
func (s *Source) Trouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := ""
	for _, err := range s.troubles {
		if text == "" || cmp.Less(err.Error(), text) { // always the same one
			text = err.Error()
		}
	}
	if n := len(s.troubles); n > 1 {
		return fmt.Sprintf("%s (and %d more)", text, n-1)
	}
	return text
}

// explain adds what to do about an error of the group's coordinator.
func (s *Source) explain(err error) error {
	switch {
	case errors.Is(err, kafka.GroupAuthorizationFailed):
		return fmt.Errorf("group %s: not allowed: %w; give this user READ on the group", s.Group, err)
	case errors.Is(err, kafka.InconsistentGroupProtocol):
		return fmt.Errorf("group %s: its members are not tailwater's: %w; choose another group", s.Group, err)
	case errors.Is(err, kafka.InvalidSessionTimeout):
		return fmt.Errorf("group %s: %w; set the brokers' group.min.session.timeout.ms to at most %d", s.Group, err, sessionTimeout.Milliseconds())
	}
	return fmt.Errorf("group %s: %w", s.Group, err)
}
