package model

// Update is what a source tells the agent when something has changed.
type Update struct {
	// Model is the whole desired state, nil if only endpoints have changed. It is not
	// modified after it was sent.
	Model *Model
	// Changed narrows down what of Model can differ from the last one; nil: anything.
	Changed *Changed
	// Services replace those of the same key in the last Model, if Model is nil. A key
	// that the last Model does not have is ignored.
	Services []Service
	// L4 are as Services.
	L4 []L4Service
	// Problems are all that the source knows of at this moment, sorted.
	Problems []Problem
	// Statuses are those of all objects at this moment.
	Statuses Statuses
}

// Changed says what of a Model can differ from the one that was sent before it.
type Changed struct {
	Hosts []string // that came, changed or went, sorted
	// Trust: Certificates, Authorities and DefaultCertificate.
	Trust bool
	// Services: everything else.
	Services bool
}
