// Package kube knows the pods of one Kubernetes node: what the paths under kubelet's
// log directory say of them, and what the API server tells.
//
// It is a small client of its own, as it needs one list and one watch of one kind of
// object: a list of the node's pods, then a watch from there on, for as long as both
// sides live.
//
// Invariants:
//   - Nobody waits for the API server here but Run.
//   - What the API server has told of a pod is kept for KeepDeleted after the pod's end.
//   - A pod that is not known yet is waited for only while the API server can be
//     expected to tell of it, and never longer than Config.Wait.
package kube
