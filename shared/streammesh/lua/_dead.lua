-- Parks what can never be run as it is: a letter for people, and what a replay puts back.
-- d = {dead, index, entries, services, service, kept, now, id, letter, parts}
-- parts = {h =, b = (a queue entry), m = (meta of a ledger row), e = (an event), f = (its flow),
-- c = (its members of `cancellable`)}, each may be missing
--#include _write.lua
local function unpark(d, id)
  write('HDEL', d.entries, 'h:' .. id, 'b:' .. id, 'm:' .. id, 'e:' .. id, 'f:' .. id, 'c:' .. id)
  write('ZREM', d.index, id)
  return write('HDEL', d.dead, id)
end

local function park(d)
  unpark(d, d.id)
  write('HSET', d.dead, d.id, d.letter)
  write('ZADD', d.index, digits(d.now), d.id)
  write('SADD', d.services, d.service)
  for name, value in pairs(d.parts) do write('HSET', d.entries, name .. ':' .. d.id, value) end
  local over = redis.call('ZCARD', d.index) - tonumber(d.kept)
  if over > 0 then
    for _, id in ipairs(redis.call('ZRANGE', d.index, 0, over - 1)) do unpark(d, id) end
  end
end
