#!/bin/bash
# The script of docs/busctl.md.
set -eu

service=org.kldload.Kvm1
root=/org/kldload/Kvm1

# call OBJECT INTERFACE METHOD SIGNATURE ARGUMENTS…: prints the answer's first value, such as an object's path.
call() {
    busctl --timeout=600 --json=short call "$service" "$1" "$service.$2" "$3" "${@:4}" | jq -r '.data[0] // empty'
}

# property OBJECT INTERFACE NAME
property() {
    busctl --json=short get-property "$service" "$1" "$service.$2" "$3" | jq -r .data
}

# A VM of 2 GiB with a blank disk of 10 GiB. Sizes are in bytes; 't' is a 64-bit number, 'b' is yes or no.
job=$(call $root Manager CreateVm 'sa{sv}' template 3 \
    memory t $((2 << 30)) \
    disk t $((10 << 30)) \
    wait b true)
vm=$(busctl --json=short get-property $service "$job" $service.Job Result | jq -r .data.vm.data)

# A snapshot with a name, of all its volumes at once.
call "$vm" Vm Snapshot 'a{sv}' 2 name s stable wait b true

# Ten clones of it in one call, and one operation: all of them, or none.
call "$vm" Vm Clone 'asa{sv}' 10 web-1 web-2 web-3 web-4 web-5 web-6 web-7 web-8 web-9 web-10 \
    2 snapshot s stable wait b true

# What a call would do: the plan is a job, with its steps, and what it would destroy by name.
web=$(call $root Manager FindVm s web-1)
plan=$(call "$web" Vm Delete 'a{sv}' 1 plan-only b true)
busctl --json=short get-property $service "$plan" $service.Job Steps | jq -r '.data[].description.data'
busctl --json=short get-property $service "$plan" $service.Job Destroys | jq -r '.data[]'

# Carry out exactly that plan, or be told what has changed since.
call "$plan" Job Apply 'a{sv}' 1 wait b true

# Every VM with its state, in one call.
busctl --json=short call $service $root org.freedesktop.DBus.ObjectManager GetManagedObjects |
    jq -r '.data[0][]."org.kldload.Kvm1.Vm" | select(.) | "\(.Name.data) \(.State.data)"'
