;; A guest that asks for more and more of a table. Rust cannot say that, so this one is written by hand; see README.md.
(component
  (import "tidemill:processor/types@0.1.0" (instance $types
    (type $failure' (record (field "code" string) (field "reason" string)))
    (export "failure" (type $failure (eq $failure')))
    (type $poison' (record (field "index" u32) (field "failure" $failure)))
    (export "poison-record" (type $poison (eq $poison')))
    (type $retry' (record (field "reason" string) (field "after-ms" (option u32))))
    (export "retry-request" (type $retry (eq $retry')))
    (type $error' (variant (case "retry" $retry) (case "poison" $poison) (case "fatal" string)))
    (export "process-error" (type (eq $error')))
    (type $ack' (variant (case "all") (case "first" u32)))
    (export "ack" (type (eq $ack')))))
  (import "tidemill:processor/records@0.1.0" (instance $records
    (export "batch" (type (sub resource)))))
  (alias export $types "process-error" (type $process-error))
  (alias export $types "ack" (type $ack))
  (alias export $records "batch" (type $batch))

  (core module $module
    (memory (export "memory") 1)
    (table $table 1 funcref)
    (func (export "process") (param i32) (result i32)
      (loop $more
        (br_if $more (i32.ne (i32.const -1) (table.grow $table (ref.null func) (i32.const 10000)))))
      unreachable)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      unreachable))
  (core instance $guest (instantiate $module))
  (func $process (param "batch" (borrow $batch)) (result (result $ack (error $process-error)))
    (canon lift (core func $guest "process") (memory (core memory $guest "memory")) (realloc (core func $guest "realloc"))))
  (instance $handler (export "process" (func $process)))
  (export "tidemill:processor/handler@0.1.0" (instance $handler)))
