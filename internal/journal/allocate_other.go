//go:build !linux

package journal

import (
	"errors"
	"os"
)

// allocate would claim disk blocks; without it a full disk stops commits sooner.
func allocate(*os.File, int64) error { return errors.ErrUnsupported }
