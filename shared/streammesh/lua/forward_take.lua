#!lua flags=allow-oom
-- Takes the entries, beside new ones, that a forwarder has to send to another broker: what was given back, what a
-- worker or a forwarder left when it died, what this forwarder read and could not send, and what was sent, never
-- begun, and seems lost there. More cannot be lost than were sent and do not wait at the broker.
-- KEYS stream (STREAM, the queue)
-- ARGS group, me (the consumer), returned (owner of what was given back), sent (owner of what was sent),
--   left (at most this many entries), lease (ms), patience (how long what was sent is waited for, ms),
--   waiting (how many wait at the broker)
-- Returns {{{1, id, times delivered, fields}, ...}, longest idle time in ms of a lease above half of it, 0}.
-- Entries that were deleted meanwhile leave the pending list and are not returned.
--#include _groups.lua
local taken, oldest = {}, 0

-- Sending once more what nobody has begun is no failed delivery, so it keeps its count.
local function take(owner, idle, most, counts)
  if most <= 0 then return end
  for _, row in ipairs(redis.call('XPENDING', stream, group, 'IDLE', idle, '-', '+', most, owner)) do
    local times = counts and row[4] + 1 or row[4]
    for _, entry in ipairs(redis.call('XCLAIM', stream, group, me, 0, row[1], 'RETRYCOUNT', times)) do
      taken[#taken + 1] = { 1, entry[1], times, entry[2] }
      left = left - 1
    end
  end
end

take(me, 0, left, false)  -- before all others, whose entries are its own from then on
for _, member in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local of = named(member)
  if of.name == returned then
    take(returned, 0, left, true)
  elseif of.name == sent then
    take(sent, patience, math.min(left, of.pending - waiting), false)
  elseif of.name ~= me and of.pending > 0 then
    take(of.name, lease, left, true)
    local near = redis.call('XPENDING', stream, group, 'IDLE', math.floor(lease / 2), '-', '+', 100, of.name)
    for _, row in ipairs(near) do
      if row[3] < lease then oldest = math.max(oldest, row[3]) end
    end
  end
end
return { taken, oldest, 0 }
