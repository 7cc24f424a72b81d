-- What the reading scripts begin with: a board's order, its ranks, and entries as bytes.
--
-- KEYS  see boards/keys.py
-- ARGV  begin with the order (`descending` or `ascending`) and the ties
-- A position is 0-based, in the board's order. `false` is returned while the board is not complete.

local board, members, meta, ready, scores, cache = unpack(KEYS)
local descending, ties = ARGV[1] == 'descending', ARGV[2]

local function complete()
  return redis.call('EXISTS', ready) == 1
end

local function version()
  return tonumber(redis.call('HGET', meta, 'version') or 0)
end

local function total()
  return redis.call('ZCARD', board)
end

local function position(member)
  return redis.call(descending and 'ZREVRANK' or 'ZRANK', board, member)
end

-- Members and scores from one position to another.
local function range(from, to)
  return redis.call(descending and 'ZREVRANGE' or 'ZRANGE', board, from, to, 'WITHSCORES')
end

-- How many of a sorted set are strictly ahead of a score, or strictly behind it.
local function beyond(set, score, ahead)
  if ahead == descending then
    return redis.call('ZCOUNT', set, '(' .. score, '+inf')
  end
  return redis.call('ZCOUNT', set, '-inf', '(' .. score)
end

local function rank(position, score)
  if ties == 'first_to_reach' then
    return position + 1
  end
  return beyond(ties == 'dense' and scores or board, score, true) + 1
end

-- Doubles hold every score and count exactly.
local function numbers(...)
  return struct.pack('>' .. string.rep('d', select('#', ...)), ...)
end

-- For each: place among equals (8 bytes), player (16), when it was reached (8), score (a double).
local function entries(found)
  if #found == 0 then
    return ''
  end
  local users, answer = {}, {}
  for i = 1, #found, 2 do
    users[#users + 1] = string.sub(found[i], 9)
  end
  local kept = redis.call('HMGET', members, unpack(users))
  for i = 1, #users do
    local at = kept[i] and #kept[i] > 8 and string.sub(kept[i], 17) or string.rep('\0', 8)
    answer[i] = found[2 * i - 1] .. at .. numbers(tonumber(found[2 * i]))
  end
  return table.concat(answer)
end
