#!lua flags=allow-oom
-- Says how many entries streams of queues have, how many of them workers hold, and since when the first of the rest waits.
-- KEYS streams (STREAM), indexes (ZSET, of dead letters)
-- ARGS group (of the workers)
-- Returns {per stream {entries, held, position of the first that no worker was given, or ''}, per index how many it has}.
-- What is no stream, or no sorted set, counts as empty.
--#include _groups.lua
local function number(answer)
  return type(answer) == 'number' and answer or 0
end

local function state(stream)
  local length = number(redis.pcall('XLEN', stream))
  if length == 0 then return { 0, 0, '' } end
  local about = group_of(stream, group) or { pending = 0, ['last-delivered-id'] = '0-0' }
  local held, given = about.pending, about['last-delivered-id']
  local first = held < length and redis.call('XRANGE', stream, '(' .. given, '+', 'COUNT', 1)[1]
  return { length, held, first and first[1] or '' }
end

local queues, dead = {}, {}
for i, stream in ipairs(streams) do queues[i] = state(stream) end
for i, index in ipairs(indexes) do dead[i] = number(redis.pcall('ZCARD', index)) end
return { queues, dead }
