-- Takes one snapshot of many volumes in one transaction, each with user properties of its own.
--
-- argv: the snapshot's name; the property whose value ends with the tag; the tag; "together", if there shall be all of the
-- snapshots or none, or "each"; and then for each volume its name, how many properties it gets, and these as key and value.
-- Returns what became of each volume, by its name: "taken GUID CREATETXG CREATION", "taken" (before, by the same tag), "gone"
-- (there is no such volume), "exists" (it has another snapshot of that name), "failed: ERRNO", or "left" (it was not taken
-- because of another).
--
-- What a program has done before it fails stays done. So, where it shall be all or none, what can be foreseen is looked at
-- before anything is changed; and a snapshot that cannot get its properties, the tag among them by which it is told to be
-- ours, does not stay.

args = ...
argv = args["argv"]
name, key, tag, mode = argv[1], argv[2], argv[3], argv[4]

function take(volume)
    local fault = zfs.sync.snapshot(volume.snapshot)
    if fault == 0 then
        for _, pair in ipairs(volume.properties) do
            fault = zfs.sync.set_prop(volume.snapshot, pair[1], pair[2])
            if fault ~= 0 then
                zfs.sync.destroy(volume.snapshot)
                break
            end
        end
    end
    if fault == 0 then
        if moment == nil then -- all are of one transaction group
            moment = " " .. zfs.get_prop(volume.snapshot, "createtxg") .. " " .. zfs.get_prop(volume.snapshot, "creation")
        end
        outcome[volume.dataset] = "taken " .. zfs.get_prop(volume.snapshot, "guid") .. moment
    else
        sound = false
        outcome[volume.dataset] = "failed: " .. fault
    end
end

-- What there is to say of a volume before anything is done; nil if its snapshot can be taken.
function before(volume)
    if not zfs.exists(volume.dataset) then
        return "gone"
    elseif not zfs.exists(volume.snapshot) then
        return nil
    end
    value = zfs.get_prop(volume.snapshot, key)
    return value ~= nil and string.sub(value, -string.len(tag) - 1) == ":" .. tag and "taken" or "exists"
end

function ours(volume)
    return string.sub(outcome[volume.dataset], 1, 6) == "taken "
end

volumes, outcome, sound, moment = {}, {}, true, nil
position = 5
while argv[position] ~= nil do
    volume = {dataset = argv[position], snapshot = argv[position] .. "@" .. name, properties = {}}
    count = tonumber(argv[position + 1])
    position = position + 2
    for _ = 1, count do
        table.insert(volume.properties, {argv[position], argv[position + 1]})
        position = position + 2
    end
    found = mode == "together" and before(volume) or nil
    if found == nil then
        table.insert(volumes, volume)
    else
        outcome[volume.dataset], sound = found, sound and found == "taken"
    end
end

for _, volume in ipairs(volumes) do
    if mode == "together" and not sound then
        outcome[volume.dataset] = "left"
    else
        take(volume)
        if mode == "each" and not ours(volume) then
            outcome[volume.dataset] = before(volume) or outcome[volume.dataset]
        end
    end
end

if mode == "together" and not sound then
    for _, volume in ipairs(volumes) do
        if ours(volume) then
            zfs.sync.destroy(volume.snapshot)
            outcome[volume.dataset] = "left"
        end
    end
end

return outcome
