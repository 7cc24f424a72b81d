-- Counts a batch of attempts in their players' short windows, in order, and fixes the
-- verdict of each accepted one for a while, all in one step.
--
-- KEYS  two per attempt, all of one shard: its player's window, its action's verdict
--       (the latter ends in the action's id of 36 characters)
-- ARGV  1 the clock's offset, 2 the window, 3 how long a verdict is kept (all in ms)
--       4 the most actions in a window, 5 the most that are named
--       6 a digit per attempt: 1 accepted, 0 refused
-- Answers, per attempt, 0: nothing found; 1: nothing found when it was first judged;
-- else a JSON list of strings: when it was judged, then action and time of each in the window.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local window, keep, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- A verdict keeps its end beside the TTL and is judged by it, since tests move the clock.
local ends = string.format('%.0f', now + keep)
local answers = {}

local function count(judged, action)
  redis.call('ZADD', judged, now, action)
  redis.call('PEXPIRE', judged, window)
  -- Only a window that holds much is worth the pruning.
  if redis.call('ZCARD', judged) <= 8 then return nil end
  redis.call('ZREMRANGEBYSCORE', judged, '-inf', now - window)
  if redis.call('ZCARD', judged) <= most then return nil end
  local named = redis.call('ZRANGE', judged, -tonumber(ARGV[5]), -1, 'WITHSCORES')
  table.insert(named, 1, string.format('%.0f', now))
  return cjson.encode(named)
end

for i = 1, #KEYS, 2 do
  local verdict, known = KEYS[i + 1], false
  local accepted = string.byte(ARGV[6], (i + 1) / 2) == 49
  if accepted then
    known = redis.call('SET', verdict, ends, 'NX', 'GET', 'PX', keep)
    if known and tonumber(string.match(known, '^%d+')) <= now then
      redis.call('SET', verdict, ends, 'PX', keep)
      known = false
    end
  end
  if known then
    answers[#answers + 1] = string.match(known, '^%d+ (.*)$') or 1
  else
    local found = count(KEYS[i], string.sub(verdict, -36))
    if found and accepted then
      redis.call('SET', verdict, ends .. ' ' .. found, 'PX', keep)
    end
    answers[#answers + 1] = found or 0
  end
end
return answers
