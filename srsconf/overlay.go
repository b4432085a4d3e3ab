package srsconf

// Overlay is the user's vhosts and other directives, added to every origin's config.
type Overlay struct{}

// LoadOverlay reads an overlay file; "" gives an empty overlay.
func LoadOverlay(path string) (*Overlay, error) { return nil, errUnimplemented }

// For is the overlay's text for one slot: pulls and listeners of fixed ports
// (ingest, stream_caster) are on slot 0 alone.
func (o *Overlay) For(slot int) string { return "" }
